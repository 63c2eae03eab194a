//! The tables and functions, and their versions.

use std::{pin::pin, time::Duration};

use asynqueue_core::broker::kit::io;
use tokio_postgres::{
    Client, IsolationLevel, Transaction,
    error::{DbError, SqlState},
    types::{ToSql, Type},
};

use crate::{
    ConnectError, PostgresOptions,
    link::{Schema, problem, why_not_connected},
};

/// The tables, as steps from each version to the next. A step that was published never changes.
const STEPS: [&str; 1] = [include_str!("sql/tables.sql")];

/// The functions. Those of a later version have the same arguments and results, because programs of both versions call
/// them during a deployment; one that must differ gets another name.
const FUNCTIONS: [&str; 9] = [
    include_str!("sql/common.sql"),
    include_str!("sql/calls.sql"),
    include_str!("sql/enqueue.sql"),
    include_str!("sql/lease.sql"),
    include_str!("sql/settle.sql"),
    include_str!("sql/extend.sql"),
    include_str!("sql/edit.sql"),
    include_str!("sql/upkeep.sql"),
    include_str!("sql/documents.sql"),
];

/// The version of the tables and functions of this build.
const VERSION: i32 = 1;

/// The oldest version of the library that can use them.
const USABLE_FROM: i32 = 1;

/// How long a migration waits for another one before it says so.
const SILENCE: Duration = Duration::from_secs(3);

/// Creates the schema, its tables and its functions, or brings them to the version of this library. Does nothing if they
/// have it already. Programs of the version before continue to work.
///
/// # Errors
///
/// When the server cannot be reached, or the role may not create them.
pub async fn migrate(options: &PostgresOptions) -> Result<(), ConnectError> {
    migrated(options).await.map(drop)
}

/// The statements that [`migrate`] runs on a database that has no tables yet, to be run by hand.
pub fn schema_sql(schema: &str) -> String {
    let schema = Schema::new(schema);
    let mut sql = create(&schema);
    for part in STEPS.iter().chain(&FUNCTIONS) {
        sql.push('\n');
        sql.push_str(&schema.apply(part));
    }
    sql.push('\n');
    sql.push_str(&note(&schema));
    sql
}

/// Brings the tables to this version. Returns their id.
pub(crate) async fn migrated(options: &PostgresOptions) -> Result<String, ConnectError> {
    let schema = Schema::new(&options.schema);
    let mut client = connect(options).await?;
    let is_current = |found: &Found| found.version >= VERSION;
    if let Some(found) = found(&client, options).await?.filter(is_current) {
        return Ok(found.id);
    }
    run(&mut client, &schema).await?;
    // Another process may have been faster, with a version that this build cannot use.
    usable(found(&client, options).await?, &schema)
}

/// Checks that this build can use the tables. Returns their id.
pub(crate) async fn checked(options: &PostgresOptions) -> Result<String, ConnectError> {
    let client = connect(options).await?;
    usable(
        found(&client, options).await?,
        &Schema::new(&options.schema),
    )
}

fn usable(found: Option<Found>, schema: &Schema) -> Result<String, ConnectError> {
    match found {
        Some(found) if found.version >= VERSION => Ok(found.id),
        found => Err(ConnectError::Older {
            schema: schema.name().to_owned(),
            found: found.map_or(0, |found| found.version),
            needed: VERSION,
        }),
    }
}

/// A connection of its own: a migration may take long.
async fn connect(options: &PostgresOptions) -> Result<Client, ConnectError> {
    let tls = options.tls()?;
    let config = options.config.clone();
    let connecting = async move {
        let (client, connection) = tls.connect(&config, None).await?;
        tokio::spawn(connection);
        Ok(client)
    };
    let limit = options.time_to_connect();
    match tokio::time::timeout(limit, io::run(connecting)).await {
        Ok(Ok(Ok(client))) => Ok(client),
        Ok(Ok(Err(error))) => {
            let error: tokio_postgres::Error = error;
            Err(unreachable(options, why_not_connected(&error), error))
        }
        Ok(Err(error)) => Err(unreachable(options, error.to_string(), error)),
        Err(late) => {
            let problem = format!(
                "no response within {limit:?}: expected PostgreSQL at this address; check the host and the port, or raise \
                 `connect_timeout`"
            );
            Err(unreachable(options, problem, late))
        }
    }
}

/// The tables in the database.
struct Found {
    version: i32,
    id: String,
}

async fn found(client: &Client, options: &PostgresOptions) -> Result<Option<Found>, ConnectError> {
    let schema = Schema::new(&options.schema);
    let sql = schema.apply("select version, usable_from, id::text from asynqueue.meta");
    let limit = options.response_timeout;
    let row = match tokio::time::timeout(limit, client.query_typed_one(&sql, &[])).await {
        Ok(Ok(row)) => row,
        Ok(Err(error)) => {
            return match error.code() {
                Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME) => Ok(None),
                _ => Err(ConnectError::Schema {
                    schema: schema.name().to_owned(),
                    problem: problem(&error),
                    source: error.into(),
                }),
            };
        }
        Err(late) => {
            let problem = format!(
                "no response within {limit:?}: check the server, or raise `response_timeout`"
            );
            return Err(unreachable(options, problem, late));
        }
    };
    let (version, usable_from): (i32, i32) = (row.get(0), row.get(1));
    if usable_from > VERSION {
        return Err(ConnectError::Newer {
            schema: schema.name().to_owned(),
            found: version,
            supported: VERSION,
        });
    }
    let id = row.get(2);
    Ok(Some(Found { version, id }))
}

/// The role may have limits, which are for queries.
const WITHOUT_LIMITS: &str = "set local lock_timeout = 0; set local statement_timeout = 0; \
     set local idle_in_transaction_session_timeout = 0";

async fn run(client: &mut Client, schema: &Schema) -> Result<(), ConnectError> {
    let error = |error| failed(schema, error);
    // So that each statement sees what others have committed before the lock was free.
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted);
    let transaction = transaction.start().await.map_err(error)?;
    transaction
        .batch_execute(WITHOUT_LIMITS)
        .await
        .map_err(error)?;
    lock(&transaction, schema).await.map_err(error)?;
    transaction
        .batch_execute(&create(schema))
        .await
        .map_err(|error| not_created(schema, error))?;
    let table = "select 1 from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where n.nspname = $1 and c.relname = 'meta'";
    let table = transaction
        .query_typed(table, &[(&schema.name(), Type::TEXT)])
        .await
        .map_err(error)?;
    let version = match table.is_empty() {
        true => 0,
        false => {
            let sql = schema.apply("select version from asynqueue.meta");
            let row = transaction
                .query_typed_one(&sql, &[])
                .await
                .map_err(error)?;
            row.get::<_, i32>(0)
        }
    };
    if version >= VERSION {
        return Ok(());
    }
    let steps = STEPS
        .iter()
        .skip(usize::try_from(version).unwrap_or_default());
    for sql in steps.chain(&FUNCTIONS) {
        transaction
            .batch_execute(&schema.apply(sql))
            .await
            .map_err(error)?;
    }
    transaction
        .batch_execute(&note(schema))
        .await
        .map_err(error)?;
    transaction.commit().await.map_err(error)
}

/// Waits until no other process migrates this schema.
async fn lock(transaction: &Transaction<'_>, schema: &Schema) -> Result<(), tokio_postgres::Error> {
    let lock = "select pg_advisory_xact_lock(1634956657, hashtext($1))";
    let name = schema.name();
    let values: [(&(dyn ToSql + Sync), Type); 1] = [(&name, Type::TEXT)];
    let mut locking = pin!(transaction.query_typed(lock, &values));
    if let Ok(locked) = tokio::time::timeout(SILENCE, &mut locking).await {
        return locked.map(drop);
    }
    tracing::warn!(
        schema = name,
        "another process is migrating the schema; waiting until it has ended"
    );
    locking.await?;
    tracing::info!(
        schema = name,
        "the migration by another process has ended; continuing"
    );
    Ok(())
}

/// Creates the schema. `create schema if not exists` requires `create` on the database even if the schema exists.
fn create(schema: &Schema) -> String {
    let name = schema.name();
    format!(
        "do $$ begin\n    if not exists (select from pg_namespace where nspname = '{name}') then\n        \
         create schema \"{name}\";\n    end if;\nend $$;\n"
    )
}

/// Records the version.
fn note(schema: &Schema) -> String {
    let note = schema.apply("insert into asynqueue.meta (version, usable_from) values ");
    format!(
        "{note}({VERSION}, {USABLE_FROM})\n\
         on conflict (one) do update set version = excluded.version, usable_from = excluded.usable_from;\n"
    )
}

fn failed(schema: &Schema, error: tokio_postgres::Error) -> ConnectError {
    ConnectError::Migration {
        schema: schema.name().to_owned(),
        problem: problem(&error),
        source: error.into(),
    }
}

fn not_created(schema: &Schema, error: tokio_postgres::Error) -> ConnectError {
    let (name, message) = (schema.name(), error.as_db_error().map(DbError::message));
    let problem = match (error.code(), message) {
        (Some(&SqlState::INSUFFICIENT_PRIVILEGE), Some(message)) => format!(
            "it does not exist, and cannot be created: {message}: run `create schema \"{name}\" authorization …` with \
             the name of the role as an owner of the database"
        ),
        _ => return failed(schema, error),
    };
    ConnectError::Migration {
        schema: name.to_owned(),
        problem,
        source: error.into(),
    }
}

fn unreachable(
    options: &PostgresOptions,
    problem: String,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ConnectError {
    ConnectError::Server {
        server: options.server(),
        problem,
        source: Some(source.into()),
    }
}
