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

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use error::ProgramError;
use output::Output;

/// The environment variable of what is logged.
const LOG: &str = "FLEX_LOG";

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
    let mut output = Output::new(cli.json);
    match log_to_stderr().and_then(|()| run(&cli.command, &mut output)) {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that has seen enough, as `flex mask … | head`.
        Err(ProgramError::Write(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command, output: &mut Output) -> Result<(), ProgramError> {
    match command {
        Command::Demo(args) => demo::run(args, output),
        Command::Mask(args) => mask::run(args, output),
        Command::Bench(args) => bench::run(args, output),
        #[cfg(feature = "cuda")]
        Command::Kernel(args) => kernel::run(args, output),
        Command::Doctor => doctor::run(output),
    }
}

/// Logs what the environment asks for, else warnings.
fn log_to_stderr() -> Result<(), ProgramError> {
    let filter = EnvFilter::builder()
        .with_env_var(LOG)
        .with_default_directive(LevelFilter::WARN.into())
        .from_env()
        .map_err(|error| ProgramError::LogFilter { variable: LOG, reason: error.to_string() })?;
    let stderr = std::io::stderr;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(stderr().is_terminal())
        .with_writer(stderr)
        .init();
    Ok(())
}
