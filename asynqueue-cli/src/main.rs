//! The `asynqueue` command.

mod bench;
mod monitor;

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
    /// Serve the web monitor of a broker.
    Monitor(monitor::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Bench(options) => bench::run(&options).await,
        Command::Monitor(options) => monitor::run(&options).await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("asynqueue: {error}");
            ExitCode::FAILURE
        }
    }
}
