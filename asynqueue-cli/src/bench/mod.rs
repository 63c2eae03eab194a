//! `asynqueue bench`: each figure of a broker, measured one after the other in one process.

mod ledger;
mod payload;
mod phases;
mod report;
mod target;

use asynqueue::layer::BoxError;
use clap::Args;

use self::{phases::Bench, target::Target};

/// What to measure.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Where the tasks are kept: `memory:`, `redis://host`, …
    #[arg(long, default_value = "memory:")]
    pub(crate) broker: String,
    /// How many tasks each phase has.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) tasks: u32,
    /// How many tasks the server runs at a time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) concurrency: u32,
    /// How many bytes a payload has.
    #[arg(long, default_value_t = 100, value_parser = payload::bytes)]
    pub(crate) payload_bytes: usize,
    /// How many producers enqueue, each one thing after the other.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) producers: u32,
    /// How many tasks a call enqueues in bulk.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) batch: u32,
    /// Print one JSON object in place of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Measures, and prints what came out.
pub(crate) async fn run(options: &Options) -> Result<(), BoxError> {
    let target = Target::connect(&options.broker).await?;
    let measured = tokio::select! {
        measured = Bench::new(options, &target).run() => measured,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    };
    // Whatever came of it, nothing stays behind.
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
