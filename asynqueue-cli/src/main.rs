//! The `asynqueue` command.

mod bench;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Typed background tasks: the command line.
#[derive(Debug, Parser)]
#[command(name = "asynqueue", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure how fast a broker is, on a queue of its own that is gone afterwards.
    Bench(bench::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Command::Bench(options) = Cli::parse().command;
    match bench::run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("asynqueue: {error}");
            ExitCode::FAILURE
        }
    }
}
