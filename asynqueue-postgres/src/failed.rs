//! Why a statement in a transaction of a caller failed.

use asynqueue_core::broker::BrokerError;

use crate::{CompleteError, link::GRANT};

/// A statement in a transaction of a caller failed.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// Why a statement in a transaction of a caller has no result.
pub(crate) enum Failed {
    /// The transaction is not on the tables of the broker.
    Elsewhere(BrokerError),
    Statement(Error),
}

impl From<Failed> for BrokerError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Elsewhere(error) => error,
            Failed::Statement(error) => {
                let problem = format!("{}: roll back the transaction", reason(error.as_ref()));
                match code(error.as_ref()).as_deref() {
                    Some(DENIED) => Self::unavailable(problem),
                    _ => Self::protocol(problem),
                }
            }
        }
    }
}

impl From<Failed> for CompleteError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Elsewhere(error) => Self::Broker(error),
            Failed::Statement(error) => Self::Statement(error),
        }
    }
}

/// The code of an error of the server.
pub(crate) fn code(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<String> {
    #[cfg(feature = "sqlx")]
    if let Some(sqlx::Error::Database(error)) = error.downcast_ref() {
        return error.code().map(Into::into);
    }
    let postgres = error.downcast_ref::<tokio_postgres::Error>();
    Some(postgres?.code()?.code().to_owned())
}

/// A privilege is missing.
const DENIED: &str = "42501";

/// What the server has said: the client library says only that there was an error. If a privilege is missing, also how
/// to grant it.
pub(crate) fn reason(error: &(dyn std::error::Error + Send + Sync + 'static)) -> String {
    let postgres = error.downcast_ref::<tokio_postgres::Error>();
    let reason = match postgres.and_then(tokio_postgres::Error::as_db_error) {
        Some(error) => error.message().to_owned(),
        None => error.to_string(),
    };
    match code(error).as_deref() {
        Some(DENIED) => format!("{reason}{GRANT}"),
        _ => reason,
    }
}
