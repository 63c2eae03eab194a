//! `asynqueue migrate`: the tables of PostgreSQL.

use std::io::Write;

use asynqueue::{
    layer::BoxError,
    postgres::{PostgresOptions, migrate, schema_sql},
};
use clap::Args;

/// Which tables.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// URL of PostgreSQL, such as `postgres://owner@db/shop?schema=jobs`.
    #[arg(long, value_name = "URL")]
    broker: String,
    /// Print the statements for an empty database instead of running them.
    #[arg(long)]
    print: bool,
}

pub(crate) async fn run(options: &Options) -> Result<(), BoxError> {
    let postgres = PostgresOptions::new(&options.broker)?;
    if options.print {
        // Fails if the reader has read enough.
        let _ = std::io::stdout().write_all(schema_sql(postgres.schema_name()).as_bytes());
        return Ok(());
    }
    migrate(&postgres).await?;
    println!("Schema `{}` is up to date.", postgres.schema_name());
    Ok(())
}
