//! What a failure means: whether the call can be made again, and what a user can do.

use std::time::Duration;

use asynqueue_core::broker::BrokerError;
use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

use crate::OptionsError;

/// A connection to PostgreSQL cannot be opened, or its schema cannot be used.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The options are invalid.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The server cannot be reached, or it refuses the connection.
    #[error("cannot connect to {server}: {problem}")]
    Server {
        /// The address of the server.
        server: String,
        /// What is wrong, and what to do.
        problem: String,
        /// The reason.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The version of the tables cannot be read.
    #[error("cannot use schema `{schema}`: {problem}")]
    Schema {
        /// The schema.
        schema: String,
        /// What is wrong, and what to do.
        problem: String,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The tables cannot be created or changed.
    #[error("cannot migrate schema `{schema}`: {problem}")]
    Migration {
        /// The schema.
        schema: String,
        /// What is wrong, and what to do.
        problem: String,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The tables do not exist, or are those of an earlier version.
    #[error(
        "schema `{schema}` has tables of version {found}, and this program needs {needed}: run `asynqueue migrate`, or connect without `migrate=false`"
    )]
    Older {
        /// The schema.
        schema: String,
        /// The version of the tables. 0 if there are none.
        found: i32,
        /// The version that this build needs.
        needed: i32,
    },
    /// The tables of an outbox do not exist, or are those of an earlier version.
    #[error(
        "schema `{schema}` has tables of an outbox of version {found}, and this program needs {needed}: run `asynqueue migrate --outbox`, or connect without `migrate=false`"
    )]
    OlderOutbox {
        /// The schema.
        schema: String,
        /// The version of the tables. 0 if there are none.
        found: i32,
        /// The version that this build needs.
        needed: i32,
    },
    /// The database cannot store every text.
    #[error(
        "database `{database}` has the encoding {encoding}: expected UTF8; create another one, as by `create database … \
         template template0 encoding 'UTF8'`"
    )]
    Encoding {
        /// The database.
        database: String,
        /// Its encoding.
        encoding: String,
    },
    /// A later version of this library has changed the tables, and this build cannot use them.
    #[error(
        "schema `{schema}` has tables of version {found}, and this program supports versions up to {supported}: use a later version of asynqueue"
    )]
    Newer {
        /// The schema.
        schema: String,
        /// The version of the tables.
        found: i32,
        /// The latest version that this build supports.
        supported: i32,
    },
}

asynqueue_core::debug_as_text!(ConnectError);

/// Why a call failed.
#[derive(Debug)]
pub(crate) enum Fault {
    Postgres(tokio_postgres::Error),
    Pool(PoolError),
    /// There was no response in time.
    Late(Duration),
    Broker(BrokerError),
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<PoolError> for Fault {
    fn from(error: PoolError) -> Self {
        Self::Pool(error)
    }
}

impl From<BrokerError> for Fault {
    fn from(error: BrokerError) -> Self {
        Self::Broker(error)
    }
}

/// The code of a call that was made before: its first request has taken effect meanwhile.
const MADE_BEFORE: &str = "AQ002";

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// Nothing was changed: the call can be made again.
    Again,
    /// As `Again`, on another connection.
    Reconnect,
    /// Something may have been changed, and the connection is lost.
    Unknown,
    /// The call fails.
    Fail,
}

impl Fault {
    /// Whether the connection must not be used again: its state is unknown, or its server is a standby.
    pub(crate) fn spoils_connection(&self) -> bool {
        match self {
            Self::Late(_) => true,
            Self::Postgres(_) => self.reaction() == Reaction::Reconnect,
            Self::Pool(_) | Self::Broker(_) => false,
        }
    }

    pub(crate) fn reaction(&self) -> Reaction {
        match self {
            Self::Broker(_) => Reaction::Fail,
            Self::Late(_) => Reaction::Unknown,
            Self::Pool(PoolError::Backend(error)) => match of_server(error) {
                // The connection was never used.
                Reaction::Unknown => Reaction::Reconnect,
                other => other,
            },
            Self::Pool(_) => Reaction::Reconnect,
            Self::Postgres(error) => of_server(error),
        }
    }

    /// Whether the call was made before.
    pub(crate) fn is_made_before(&self) -> bool {
        match self {
            Self::Postgres(error) => error.code().is_some_and(|code| code.code() == MADE_BEFORE),
            _ => false,
        }
    }

    /// The error of a call. `server` is the address.
    pub(crate) fn into_error(self, server: &str) -> BrokerError {
        let reaction = self.reaction();
        match self {
            Self::Broker(error) => error,
            Self::Late(limit) => {
                BrokerError::unavailable(format!("no response from {server} within {limit:?}"))
            }
            Self::Pool(PoolError::Backend(error)) | Self::Postgres(error) => {
                let problem = format!("{server}: {}", problem(&error));
                let broker_error = match (reaction, error.code()) {
                    (_, Some(&SqlState::DISK_FULL | &SqlState::OUT_OF_MEMORY)) => {
                        BrokerError::full(problem)
                    }
                    // As on Redis: it works again once somebody grants the privilege.
                    (_, Some(&SqlState::OBJECT_IN_USE | &SqlState::INSUFFICIENT_PRIVILEGE)) => {
                        BrokerError::unavailable(problem)
                    }
                    (Reaction::Fail, _) => BrokerError::protocol(problem),
                    _ => BrokerError::unavailable(problem),
                };
                broker_error.caused_by(error)
            }
            Self::Pool(error) => {
                BrokerError::unavailable(format!("no connection to {server}: {error}"))
            }
        }
    }
}

fn of_server(error: &tokio_postgres::Error) -> Reaction {
    let Some(state) = error.code() else {
        // Encoding a value fails before anything is sent; all else is a connection.
        return match error.is_closed()
            || std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
        {
            true => Reaction::Unknown,
            false => Reaction::Fail,
        };
    };
    match *state {
        SqlState::T_R_SERIALIZATION_FAILURE
        | SqlState::T_R_DEADLOCK_DETECTED
        | SqlState::LOCK_NOT_AVAILABLE
        | SqlState::QUERY_CANCELED
        | SqlState::OUT_OF_MEMORY
        | SqlState::DISK_FULL => Reaction::Again,
        // A standby, after a failover.
        SqlState::READ_ONLY_SQL_TRANSACTION
        | SqlState::CANNOT_CONNECT_NOW
        | SqlState::TOO_MANY_CONNECTIONS
        | SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => Reaction::Reconnect,
        // The server ends. A commit may have been made before.
        SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN => Reaction::Unknown,
        _ if state.code().starts_with("08") => Reaction::Unknown,
        _ if state.code() == MADE_BEFORE => Reaction::Again,
        _ => Reaction::Fail,
    }
}

/// Why there is no connection, and what to do.
pub(crate) fn why_not_connected(error: &tokio_postgres::Error) -> String {
    let problem = problem(error);
    let source = std::error::Error::source(error);
    let reason = source.map(ToString::to_string).unwrap_or_default();
    let advice = match error.code() {
        Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
            "check the user and the password in the URL, and `pg_hba.conf` of the server"
        }
        Some(&SqlState::INVALID_CATALOG_NAME) => "create it, or correct its name in the URL",
        Some(_) => return problem,
        None if reason.contains("UnknownIssuer") || reason.contains("BadSignature") => {
            "no trusted CA has signed the certificate of the server; set `sslrootcert` to the file of its CA"
        }
        None if reason.contains("not valid for") => {
            "the certificate of the server has other names; connect to one of them, or set `sslmode=verify-ca`"
        }
        None if reason.contains("does not support TLS") => {
            "set `ssl = on` on the server, or `sslmode=disable` in the URL"
        }
        None if reason.contains("password missing") => {
            "write `postgres://user:password@host`, with the user and the password of the role"
        }
        None => "expected PostgreSQL at this address; check the host and the port",
    };
    format!("{problem}: {advice}")
}

/// How to grant a privilege that a role lacks.
pub(crate) const GRANT: &str = ": the role must own the schema, or have privileges on it: `grant usage on schema … to …`, and \
     `grant select, insert, update, delete on all tables in schema … to …`";

/// The message of a failure, with what to do.
pub(crate) fn problem(error: &tokio_postgres::Error) -> String {
    let Some(reason) = error.as_db_error() else {
        let source = std::error::Error::source(error);
        return source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
    };
    let advice = match *reason.code() {
        SqlState::UNDEFINED_TABLE if reason.message().contains(".outbox") => {
            ": run `asynqueue migrate --outbox`"
        }
        SqlState::UNDEFINED_TABLE
        | SqlState::UNDEFINED_FUNCTION
        | SqlState::INVALID_SCHEMA_NAME => ": run `asynqueue migrate`",
        SqlState::INSUFFICIENT_PRIVILEGE => GRANT,
        SqlState::READ_ONLY_SQL_TRANSACTION => {
            ": this server is a standby, or the role has `default_transaction_read_only`; list all servers in the URL, with \
             `target_session_attrs=read-write`, or remove the setting"
        }
        SqlState::TOO_MANY_CONNECTIONS => ": lower `pool_size`, or raise `max_connections`",
        SqlState::DISK_FULL => ": free space on the disk of the server",
        _ => "",
    };
    format!("{}{advice}", reason.message())
}
