//! The `asynqueue` command.

mod bench;
mod monitor;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The asynqueue command line: serve the web monitor, benchmark a broker.
#[derive(Debug, Parser)]
#[command(name = "asynqueue", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Benchmark a broker on a temporary queue, which is deleted afterwards.
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
