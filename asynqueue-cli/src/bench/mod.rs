//! `asynqueue bench`: measures a broker, one figure after the other, in one process.

mod ledger;
mod payload;
mod phases;
mod processes;
mod report;
mod target;

use asynqueue::layer::BoxError;
use clap::Args;

use self::{phases::Bench, target::Target};

/// The settings of a benchmark.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// URL of the broker, such as `memory:`, `redis://localhost` or `postgres://localhost/db`.
    #[arg(long, value_name = "URL", default_value = "memory:")]
    pub(crate) broker: String,
    /// Number of tasks in each phase.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) tasks: u32,
    /// Number of tasks that the server runs concurrently.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) concurrency: u32,
    /// Payload size in bytes.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = payload::bytes)]
    pub(crate) payload_bytes: usize,
    /// Number of producers that enqueue concurrently.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) producers: u32,
    /// Number of tasks in each bulk call.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) batch: u32,
    /// Tasks a second while latency under load is measured [default: half of what the server has processed]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) load_rate: Option<u32>,
    /// How long latency under load is measured [default: up to 2]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) load_seconds: Option<u32>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Measures, and prints the results.
pub(crate) async fn run(options: &Options) -> Result<(), BoxError> {
    let target = Target::connect(&options.broker).await?;
    let measured = tokio::select! {
        measured = Bench::new(options, &target).run() => measured,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    };
    // Deletes the queue even after an error or an interrupt.
    let cleaned = target.clean_up().await;
    let report = measured?;
    cleaned?;
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", report.table(options));
    }
    Ok(())
}
