//! The tables and functions, and their versions.

use asynqueue_core::broker::kit::io;
use tokio_postgres::{Client, IsolationLevel, error::SqlState};

use crate::{
    ConnectError, PostgresOptions,
    link::{Schema, Tls, problem},
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

/// Creates the schema, its tables and its functions, or brings them to the version of this library. Does nothing if they
/// have it already. Programs of the version before continue to work.
///
/// # Errors
///
/// When the server cannot be reached, or the role may not create them.
pub async fn migrate(options: &PostgresOptions) -> Result<(), ConnectError> {
    let schema = Schema::new(&options.schema);
    let mut client = connect(options).await?;
    if found(&client, &schema)
        .await?
        .is_some_and(|found| found.version == VERSION)
    {
        return Ok(());
    }
    run(&mut client, &schema).await
}

/// The statements that [`migrate`] runs on a database that has no tables yet, to be run by hand.
pub fn schema_sql(schema: &str) -> String {
    let schema = Schema::new(schema);
    let mut sql = format!("create schema if not exists \"{}\";\n\n", schema.name());
    for part in STEPS.iter().chain(&FUNCTIONS) {
        sql.push_str(&schema.apply(part));
        sql.push('\n');
    }
    sql.push_str(&schema.apply("insert into asynqueue.meta values (true, "));
    sql.push_str(&format!("{VERSION}, {USABLE_FROM});\n"));
    sql
}

/// Checks that this build can use the tables.
pub(crate) async fn check(options: &PostgresOptions) -> Result<(), ConnectError> {
    let schema = Schema::new(&options.schema);
    let client = connect(options).await?;
    match found(&client, &schema).await? {
        Some(found) if found.version >= VERSION => Ok(()),
        found => Err(ConnectError::Older {
            schema: schema.name().to_owned(),
            found: found.map_or(0, |found| found.version),
            needed: VERSION,
        }),
    }
}

/// A connection of its own: a migration may take long.
async fn connect(options: &PostgresOptions) -> Result<Client, ConnectError> {
    let server = options.server();
    let failed = |problem: String, source: Option<Box<dyn std::error::Error + Send + Sync>>| {
        ConnectError::Server {
            server: server.clone(),
            problem,
            source,
        }
    };
    let tls =
        Tls::new(&options.tls).map_err(|error| failed(error.to_string(), Some(error.into())))?;
    let config = options.config.clone();
    let connecting = async move {
        let (client, connection) = tls.connect(&config, None).await?;
        tokio::spawn(connection);
        Ok(client)
    };
    let limit =
        options.connect_timeout * u32::try_from(options.config.get_hosts().len()).unwrap_or(1);
    match tokio::time::timeout(limit, io::run(connecting)).await {
        Ok(Ok(Ok(client))) => Ok(client),
        Ok(Ok(Err(error))) => {
            let error: tokio_postgres::Error = error;
            Err(failed(problem(&error), Some(error.into())))
        }
        Ok(Err(error)) => Err(failed(error.to_string(), Some(error.into()))),
        Err(_) => Err(failed(format!("no response within {limit:?}"), None)),
    }
}

/// The version of the tables in the database.
struct Found {
    version: i32,
}

async fn found(client: &Client, schema: &Schema) -> Result<Option<Found>, ConnectError> {
    let sql = schema.apply("select version, usable_from from asynqueue.meta");
    let row = match client.query_typed_one(&sql, &[]).await {
        Ok(row) => row,
        Err(error) => {
            return match error.code() {
                Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME) => Ok(None),
                _ => Err(failed(schema, error)),
            };
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
    Ok(Some(Found { version }))
}

async fn run(client: &mut Client, schema: &Schema) -> Result<(), ConnectError> {
    let error = |error| failed(schema, error);
    // So that each statement sees what others have committed before the lock was free.
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted);
    let transaction = transaction.start().await.map_err(error)?;
    // One process at a time.
    let lock = "select pg_advisory_xact_lock(1634956657, hashtext($1))";
    let name = schema.name();
    transaction
        .query_typed(lock, &[(&name, tokio_postgres::types::Type::TEXT)])
        .await
        .map_err(error)?;
    let exists = "select 1 from pg_namespace where nspname = $1";
    let exists = transaction
        .query_typed(exists, &[(&name, tokio_postgres::types::Type::TEXT)])
        .await
        .map_err(error)?;
    if exists.is_empty() {
        let create = format!("create schema \"{name}\"");
        transaction.batch_execute(&create).await.map_err(error)?;
    }
    let table = "select 1 from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where n.nspname = $1 and c.relname = 'meta'";
    let table = transaction
        .query_typed(table, &[(&name, tokio_postgres::types::Type::TEXT)])
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
    let note = schema.apply(
        "insert into asynqueue.meta values (true, $1, $2) \
         on conflict (one) do update set version = excluded.version, usable_from = excluded.usable_from",
    );
    let int = tokio_postgres::types::Type::INT4;
    transaction
        .query_typed(&note, &[(&VERSION, int.clone()), (&USABLE_FROM, int)])
        .await
        .map_err(error)?;
    transaction.commit().await.map_err(error)
}

fn failed(schema: &Schema, error: tokio_postgres::Error) -> ConnectError {
    ConnectError::Migration {
        schema: schema.name().to_owned(),
        problem: problem(&error),
        source: error.into(),
    }
}
