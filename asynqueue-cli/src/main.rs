//! The `asynqueue` command.

mod bench;
mod migrate;
mod monitor;
mod transfer;
mod why;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The asynqueue command line: serve the web monitor, show why tasks wait, benchmark a broker, move tasks to another broker.
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
    /// Create the tables and functions of PostgreSQL, or those of an outbox, or bring them to the version of this program.
    ///
    /// Programs do so themselves when they connect, unless their URL has `migrate=false`. Programs of the version before
    /// continue to work.
    Migrate(migrate::Options),
    /// Serve the web monitor of a broker.
    Monitor(Box<monitor::Options>),
    /// Move everything from one broker to another: tasks, schedule entries, subscribers and statistics.
    ///
    /// Servers may run on both brokers. A move that was interrupted or killed resumes when it is started again.
    Move(transfer::Options),
    /// Show why a queue or a task waits: the causes, gravest first, and the servers that take from the queue.
    Why(why::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Bench(options) => bench::run(&options).await,
        Command::Migrate(options) => migrate::run(&options).await,
        Command::Monitor(options) => monitor::run(&options).await,
        Command::Move(options) => transfer::run(&options).await,
        Command::Why(options) => why::run(&options).await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("asynqueue: {error}");
            ExitCode::FAILURE
        }
    }
}
