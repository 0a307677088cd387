//! `flex`: attention with masks and score changes written in Rust, from the command line.

mod bench;
mod demo;
mod doctor;
mod error;
mod inputs;
#[cfg(feature = "cuda")]
mod kernel;
mod mask;
mod output;
mod packed;
mod picture;
mod progress;
mod sampled;
mod timing;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use error::ProgramError;
use output::Output;

/// Attention with masks and score changes written as Rust functions.
///
/// FLEX_LOG sets what is logged to stderr: `FLEX_LOG=info`, `FLEX_LOG=flex_attention=debug`.
#[derive(Debug, Parser)]
#[command(name = "flex", version, arg_required_else_help = true)]
struct Cli {
    /// Print JSON instead of text: one object a line.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the main job: packed sentences of a real model, their document mask, attention, and how exact it is.
    Demo(demo::Args),
    /// Build and draw a mask of the library.
    Mask(mask::Args),
    /// Measure attention on the cases that other implementations are measured on.
    Bench(bench::Args),
    /// Compile the CUDA kernels of mods, to read them or ahead of time. Needs no GPU.
    #[cfg(feature = "cuda")]
    Kernel(kernel::Args),
    /// Say what this machine has and what would be used.
    Doctor,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("FLEX_LOG").unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();

    let mut output = Output::new(cli.json);
    let done = match cli.command {
        Command::Demo(args) => demo::run(&args, &mut output),
        Command::Mask(args) => mask::run(&args, &mut output),
        Command::Bench(args) => bench::run(&args, &mut output),
        #[cfg(feature = "cuda")]
        Command::Kernel(args) => kernel::run(&args, &mut output),
        Command::Doctor => doctor::run(&mut output),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that has seen enough, as `flex mask … | head`.
        Err(ProgramError::Write(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::FAILURE
        }
    }
}
