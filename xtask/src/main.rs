//! The project's chores: `cargo xtask test`.

mod nvrtc;
mod pack;
mod steps;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's chores.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Everything that CI checks: formatting, lints, documentation, all tests and doc tests.
    Test,
    /// The folder target/pack: tests, examples and program with a `run` script, for a GPU machine without Rust.
    Pack,
}

fn main() -> ExitCode {
    let done = match Cli::parse().chore {
        Chore::Test => steps::test(),
        Chore::Pack => pack::pack(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}
