//! `asynqueue migrate`: the tables of PostgreSQL.

use std::io::Write;

use asynqueue::{
    layer::BoxError,
    postgres::{PostgresOptions, PostgresOutbox, migrate, schema_sql},
};
use clap::Args;

/// Which tables.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// URL of PostgreSQL, such as `postgres://owner@db/shop?schema=jobs`. Set one with a password in the environment:
    /// other users of the machine can read arguments.
    #[arg(
        long,
        env = "ASYNQUEUE_BROKER",
        hide_env_values = true,
        value_name = "URL"
    )]
    broker: String,
    /// The tables of an outbox instead: for an application whose data is there and whose tasks are on another broker.
    #[arg(long)]
    outbox: bool,
    /// Print the statements for an empty database instead of running them.
    #[arg(long)]
    print: bool,
}

pub(crate) async fn run(options: &Options) -> Result<(), BoxError> {
    let postgres = PostgresOptions::new(&options.broker)?;
    let schema = postgres.schema_name();
    if options.print {
        let sql = match options.outbox {
            true => PostgresOutbox::schema_sql(schema),
            false => schema_sql(schema),
        };
        // Fails if the reader has read enough.
        let _ = std::io::stdout().write_all(sql.as_bytes());
        return Ok(());
    }
    let what = match options.outbox {
        true => {
            PostgresOutbox::migrate(&postgres).await?;
            "The outbox in schema"
        }
        false => {
            migrate(&postgres).await?;
            "Schema"
        }
    };
    println!("{what} `{schema}` is up to date.");
    Ok(())
}
