//! The tables and functions, and their versions.

use asynqueue_core::broker::kit::io;
use tokio_postgres::{
    Client, Transaction,
    error::SqlState,
    types::{ToSql, Type},
};

use crate::{
    ConnectError, PostgresOptions,
    link::{Schema, Tls, problem},
};

/// Tables and functions that have one version, in the schema of the options.
#[derive(Debug)]
pub(crate) struct Tables {
    /// The table whose row has the version.
    meta: &'static str,
    /// The tables, as steps from each version to the next. A step that was published never changes.
    steps: &'static [&'static str],
    functions: &'static [&'static str],
    /// The version of this build.
    version: i32,
    /// The oldest version of the library that can use them.
    usable_from: i32,
}

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
const FUNCTIONS: [&str; 8] = [
    include_str!("sql/common.sql"),
    include_str!("sql/enqueue.sql"),
    include_str!("sql/lease.sql"),
    include_str!("sql/settle.sql"),
    include_str!("sql/extend.sql"),
    include_str!("sql/edit.sql"),
    include_str!("sql/upkeep.sql"),
    include_str!("sql/documents.sql"),
];

/// Creates the schema, its tables and its functions, or brings them to the version of this library. Does nothing if they
/// have it already. Programs of the version before continue to work.
///
/// # Errors
///
/// When the server cannot be reached, or the role may not create them.
pub async fn migrate(options: &PostgresOptions) -> Result<(), ConnectError> {
    BROKER.migrate(options).await
}

/// The statements that [`migrate`] runs on a database that has no tables yet, to be run by hand.
pub fn schema_sql(schema: &str) -> String {
    BROKER.sql(schema)
}

impl Tables {
    /// Brings the tables to the version of this build, or checks it, as the options require.
    pub(crate) async fn prepare(&self, options: &PostgresOptions) -> Result<(), ConnectError> {
        match options.migrate {
            true => self.migrate(options).await,
            false => self.check(options).await,
        }
    }

    pub(crate) async fn migrate(&self, options: &PostgresOptions) -> Result<(), ConnectError> {
        let schema = Schema::new(&options.schema);
        let mut client = connect(options).await?;
        match self.found(&client, &schema).await? {
            Some(found) if found == self.version => Ok(()),
            _ => self.run(&mut client, &schema).await,
        }
    }

    /// Checks that this build can use the tables.
    async fn check(&self, options: &PostgresOptions) -> Result<(), ConnectError> {
        let schema = Schema::new(&options.schema);
        let client = connect(options).await?;
        let found = self.found(&client, &schema).await?.unwrap_or_default();
        if found >= self.version {
            return Ok(());
        }
        let (schema, needed) = (schema.name().to_owned(), self.version);
        Err(match self.meta == OUTBOX.meta {
            true => ConnectError::OlderOutbox {
                schema,
                found,
                needed,
            },
            false => ConnectError::Older {
                schema,
                found,
                needed,
            },
        })
    }

    /// The statements for a database that has none of the tables.
    pub(crate) fn sql(&self, schema: &str) -> String {
        let schema = Schema::new(schema);
        let mut sql = format!("create schema if not exists \"{}\";\n\n", schema.name());
        for part in self.steps.iter().chain(self.functions) {
            sql.push_str(&schema.apply(part));
            sql.push('\n');
        }
        let note = format!(
            "insert into asynqueue.{} (version, usable_from) values ({}, {});\n",
            self.meta, self.version, self.usable_from
        );
        sql.push_str(&schema.apply(&note));
        sql
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

impl Tables {
    /// The version of the tables in the database. `None` if there are none.
    async fn found(&self, client: &Client, schema: &Schema) -> Result<Option<i32>, ConnectError> {
        let sql = format!("select version, usable_from from asynqueue.{}", self.meta);
        let row = match client.query_typed_opt(&schema.apply(&sql), &[]).await {
            Ok(Some(row)) => row,
            // Someone has emptied the table.
            Ok(None) => return Ok(Some(self.version)),
            Err(error) => {
                return match error.code() {
                    Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME) => Ok(None),
                    _ => Err(failed(schema, error)),
                };
            }
        };
        let (version, usable_from): (i32, i32) = (row.get(0), row.get(1));
        if usable_from > self.version {
            return Err(ConnectError::Newer {
                schema: schema.name().to_owned(),
                found: version,
                supported: self.version,
            });
        }
        Ok(Some(version))
    }

    async fn run(&self, client: &mut Client, schema: &Schema) -> Result<(), ConnectError> {
        let error = |error| failed(schema, error);
        let transaction = client.transaction().await.map_err(error)?;
        // One process at a time.
        let lock = "select pg_advisory_xact_lock(1634956657, hashtext($1))";
        let name = schema.name();
        transaction
            .query_typed(lock, &[(&name, Type::TEXT)])
            .await
            .map_err(error)?;
        let exists = "select 1 from pg_namespace where nspname = $1";
        let exists = transaction
            .query_typed(exists, &[(&name, Type::TEXT)])
            .await
            .map_err(error)?;
        if exists.is_empty() {
            let create = format!("create schema \"{name}\"");
            transaction.batch_execute(&create).await.map_err(error)?;
        }
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
        let note = format!(
            "insert into asynqueue.{} (version, usable_from) values ($1, $2) \
             on conflict (one) do update set version = excluded.version, usable_from = excluded.usable_from",
            self.meta
        );
        transaction
            .query_typed(
                &schema.apply(&note),
                &[(&self.version, Type::INT4), (&self.usable_from, Type::INT4)],
            )
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
}

fn failed(schema: &Schema, error: tokio_postgres::Error) -> ConnectError {
    ConnectError::Migration {
        schema: schema.name().to_owned(),
        problem: problem(&error),
        source: error.into(),
    }
}
