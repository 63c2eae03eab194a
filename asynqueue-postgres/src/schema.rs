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

/// Tables and functions that have one version, in the schema of the options.
#[derive(Debug)]
pub(crate) struct Tables {
    /// The table whose row has the version, and an id of these tables.
    meta: &'static str,
    /// The tables, as steps from each version to the next. A step that was published never changes.
    steps: &'static [&'static str],
    functions: &'static [&'static str],
    /// The version of this build.
    version: i32,
    /// The oldest version of the library that can use them.
    usable_from: i32,
}

/// An expression on `meta` that distinguishes these tables from all others. A dump copies their id, but not the numbers
/// of the table and of the database.
macro_rules! identity {
    () => {
        "concat_ws(' ', id, tableoid, (select oid from pg_database where datname = current_database()))"
    };
}

pub(crate) use identity;

/// Those of the broker.
pub(crate) const BROKER: Tables = Tables {
    meta: "meta",
    steps: &[include_str!("sql/tables.sql")],
    functions: &FUNCTIONS,
    version: 1,
    usable_from: 1,
};

/// Those of an outbox, which an application has without the broker's.
pub(crate) const OUTBOX: Tables = Tables {
    meta: "outbox_meta",
    steps: &[include_str!("sql/outbox.sql")],
    functions: &[],
    version: 1,
    usable_from: 1,
};

/// The functions of the broker. Those of a later version have the same arguments and results, because programs of both
/// versions call them during a deployment; one that must differ gets another name.
const FUNCTIONS: [&str; 10] = [
    include_str!("sql/common.sql"),
    include_str!("sql/calls.sql"),
    include_str!("sql/enqueue.sql"),
    include_str!("sql/lease.sql"),
    include_str!("sql/settle.sql"),
    include_str!("sql/extend.sql"),
    include_str!("sql/edit.sql"),
    include_str!("sql/upkeep.sql"),
    include_str!("sql/documents.sql"),
    include_str!("sql/points.sql"),
];

/// How long a migration waits for another one before it says so.
const SILENCE: Duration = Duration::from_secs(3);

/// The role may have limits, which are for queries.
const WITHOUT_LIMITS: &str = "set local lock_timeout = 0; set local statement_timeout = 0; \
     set local idle_in_transaction_session_timeout = 0";

/// Creates the schema, its tables and its functions, or brings them to the version of this library. Does nothing if they
/// have it already. Programs of the version before continue to work.
///
/// # Errors
///
/// When the server cannot be reached, or the role may not create them.
pub async fn migrate(options: &PostgresOptions) -> Result<(), ConnectError> {
    BROKER.migrate(options).await.map(drop)
}

/// The statements that [`migrate`] runs on a database that has no tables yet, to be run by hand.
pub fn schema_sql(schema: &str) -> String {
    BROKER.sql(schema)
}

/// The encoding of the database.
const ENCODING: &str = "current_setting('server_encoding')";

/// Refuses a database that cannot store every text. `SQL_ASCII` stores any bytes as they are.
fn check_encoding(encoding: &str, options: &PostgresOptions) -> Result<(), ConnectError> {
    match encoding {
        "UTF8" | "SQL_ASCII" => Ok(()),
        other => Err(ConnectError::Encoding {
            database: options.database().to_owned(),
            encoding: other.to_owned(),
        }),
    }
}

/// Tables in the database.
struct Found {
    version: i32,
    identity: String,
}

impl Tables {
    /// Brings the tables to the version of this build, or checks it, as the options require. Returns the
    /// identity of the tables.
    pub(crate) async fn prepare(&self, options: &PostgresOptions) -> Result<String, ConnectError> {
        match options.migrate {
            true => self.migrate(options).await,
            false => {
                let client = connect(options).await?;
                self.usable(self.found(&client, options).await?, options)
            }
        }
    }

    /// Brings the tables to the version of this build. Returns their identity.
    pub(crate) async fn migrate(&self, options: &PostgresOptions) -> Result<String, ConnectError> {
        let mut client = connect(options).await?;
        let is_current = |found: &Found| found.version >= self.version;
        if let Some(found) = self.found(&client, options).await?.filter(is_current) {
            return Ok(found.identity);
        }
        self.run(&mut client, options).await?;
        // Another process may have been faster, with a version that this build cannot use.
        self.usable(self.found(&client, options).await?, options)
    }

    fn usable(
        &self,
        found: Option<Found>,
        options: &PostgresOptions,
    ) -> Result<String, ConnectError> {
        let version = match found {
            Some(found) if found.version >= self.version => return Ok(found.identity),
            Some(found) => found.version,
            None => 0,
        };
        let (schema, needed) = (options.schema.clone(), self.version);
        Err(match self.meta == OUTBOX.meta {
            true => ConnectError::OlderOutbox {
                schema,
                found: version,
                needed,
            },
            false => ConnectError::Older {
                schema,
                found: version,
                needed,
            },
        })
    }

    /// The statements for a database that has none of the tables.
    pub(crate) fn sql(&self, schema: &str) -> String {
        let schema = Schema::new(schema);
        let mut sql = create(&schema);
        for part in self.steps.iter().chain(self.functions) {
            sql.push('\n');
            sql.push_str(&schema.apply(part));
        }
        sql.push('\n');
        sql.push_str(&self.note(&schema));
        sql
    }

    /// The tables in the database. `None` if there are none.
    async fn found(
        &self,
        client: &Client,
        options: &PostgresOptions,
    ) -> Result<Option<Found>, ConnectError> {
        let schema = Schema::new(&options.schema);
        let sql = format!(
            "select version, usable_from, {}, {ENCODING} from asynqueue.{}",
            identity!(),
            self.meta
        );
        let (sql, limit) = (schema.apply(&sql), options.response_timeout);
        let failed = |error: tokio_postgres::Error| match error.code() {
            Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME) => Ok(None),
            _ => Err(ConnectError::Schema {
                schema: schema.name().to_owned(),
                problem: problem(&error),
                source: error.into(),
            }),
        };
        let row = loop {
            match tokio::time::timeout(limit, client.query_typed_opt(&sql, &[])).await {
                Ok(Ok(Some(row))) => break row,
                // Someone has emptied the table.
                Ok(Ok(None)) => {
                    if let Err(error) = client.batch_execute(&self.note(&schema)).await {
                        return failed(error);
                    }
                }
                Ok(Err(error)) => return failed(error),
                Err(late) => {
                    let problem = format!(
                        "no response within {limit:?}: check the server, or raise `response_timeout`"
                    );
                    return Err(unreachable(options, problem, late));
                }
            }
        };
        check_encoding(row.get(3), options)?;
        let (version, usable_from): (i32, i32) = (row.get(0), row.get(1));
        if usable_from > self.version {
            return Err(ConnectError::Newer {
                schema: schema.name().to_owned(),
                found: version,
                supported: self.version,
            });
        }
        let identity = row.get(2);
        Ok(Some(Found { version, identity }))
    }

    async fn run(
        &self,
        client: &mut Client,
        options: &PostgresOptions,
    ) -> Result<(), ConnectError> {
        let schema = &Schema::new(&options.schema);
        let error = |error| failed(schema, error);
        let encoding = format!("select {ENCODING}");
        let encoding = client
            .query_typed_one(&encoding, &[])
            .await
            .map_err(error)?;
        check_encoding(encoding.get(0), options)?;
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
        let version = self.version_in(&transaction, schema).await.map_err(error)?;
        if version >= self.version {
            return Ok(());
        }
        let passed = usize::try_from(version).unwrap_or_default();
        for sql in self.steps.iter().skip(passed).chain(self.functions) {
            transaction
                .batch_execute(&schema.apply(sql))
                .await
                .map_err(error)?;
        }
        transaction
            .batch_execute(&self.note(schema))
            .await
            .map_err(error)?;
        transaction.commit().await.map_err(error)
    }

    /// The version of the tables, 0 if there are none.
    async fn version_in(
        &self,
        transaction: &Transaction<'_>,
        schema: &Schema,
    ) -> Result<i32, tokio_postgres::Error> {
        let table = "select 1 from pg_class c join pg_namespace n on n.oid = c.relnamespace \
             where n.nspname = $1 and c.relname = $2";
        let names: [(&(dyn ToSql + Sync), Type); 2] =
            [(&schema.name(), Type::TEXT), (&self.meta, Type::TEXT)];
        if transaction.query_typed(table, &names).await?.is_empty() {
            return Ok(0);
        }
        let sql = format!("select version from asynqueue.{}", self.meta);
        let row = transaction
            .query_typed_opt(&schema.apply(&sql), &[])
            .await?;
        Ok(row.map_or(self.version, |row| row.get(0)))
    }

    /// Records the version.
    fn note(&self, schema: &Schema) -> String {
        let note = format!(
            "insert into asynqueue.{} (version, usable_from) values ({}, {})\n\
             on conflict (one) do update set version = excluded.version, usable_from = excluded.usable_from;\n",
            self.meta, self.version, self.usable_from
        );
        schema.apply(&note).into_owned()
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
