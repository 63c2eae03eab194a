//! What to make of errors.

use asynqueue_core::{BrokerError, Timestamp};
use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::denied::Denied;
use crate::options::OptionsError;

/// Why no connection could be made at the start.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The options make no sense.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// There is no answer.
    #[error("cannot reach Redis at {address}: {reason}")]
    Unreachable {
        /// Where it should be.
        address: String,
        /// What happened.
        reason: String,
    },
    /// A pool of the program's own gives no connections.
    #[error("no connection to Redis at {address}: {reason}")]
    Pool {
        /// Where it should be.
        address: String,
        /// What was missing, and which setting to change.
        reason: String,
    },
    /// It lets nobody in, or not this user.
    #[error("Redis at {address} refuses: {reason}")]
    Refused {
        /// Where it is.
        address: String,
        /// What to do about it.
        reason: String,
    },
    /// It lacks commands that are needed.
    #[error("Redis at {address} is version {found}: 6.2 or later is needed")]
    TooOld {
        /// Where it is.
        address: String,
        /// Its version.
        found: String,
    },
    /// It does not offer the durability that the options ask for.
    #[error("Redis at {address}: {reason}")]
    Durability {
        /// Where it is.
        address: String,
        /// What is missing.
        reason: String,
    },
    /// It is a node of a Cluster, which keeps only some of the keys.
    #[error(
        "Redis at {address} is a node of a Cluster: write `redis+cluster://` in place of `redis://`"
    )]
    IsCluster {
        /// Where it is.
        address: String,
    },
    /// It is no Cluster.
    #[error("Redis at {address} is no Cluster: write `redis://` in place of `redis+cluster://`")]
    NoCluster {
        /// Where it is.
        address: String,
    },
}

asynqueue_core::debug_as_text!(ConnectError);

impl From<ConnectError> for BrokerError {
    fn from(error: ConnectError) -> Self {
        Self::unavailable(error.to_string()).caused_by(error)
    }
}

/// What to do about an error.
pub(super) enum Reaction {
    /// Send the script along.
    LoadScript,
    /// It is a matter of time.
    TryAgain,
    /// It arrived after the time that it said, and did nothing: in Redis it is this late.
    SendAgain(Timestamp),
    /// It will not get better.
    Refuse(BrokerError),
    /// It will not get better until the user has the permission.
    Deny(Denied),
}

impl Reaction {
    pub(super) fn to(error: &RedisError) -> Self {
        let text = error.to_string();
        let refuse = |refused: BrokerError| Self::Refuse(refused.caused_by(error.clone()));
        // In a script's errors of older servers, the cause is only in the text.
        if text.contains("OOM") && text.contains("command not allowed") {
            let problem =
                "Redis has reached its `maxmemory`: give it more, or let workers catch up";
            return refuse(BrokerError::full(problem));
        }
        if let Some(denied) = Denied::of(error, &text) {
            return Self::Deny(denied);
        }
        if text.contains("WRONGTYPE") {
            let hint = "a key under the prefix is not what it has to be: find it by `TYPE`, and delete or rename it";
            return refuse(BrokerError::unavailable(format!("{text}: {hint}")));
        }
        if let Some(now) = late(&text) {
            return Self::SendAgain(now);
        }
        if let Some(hint) = hint(error, &text) {
            return refuse(BrokerError::unavailable(format!("{text}: {hint}")));
        }
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::NoScript) => Self::LoadScript,
            ErrorKind::Server(kind) if is_temporary(kind) => Self::TryAgain,
            ErrorKind::Io
            | ErrorKind::ClusterConnectionNotFound
            | ErrorKind::MasterNameNotFoundBySentinel
            | ErrorKind::NoValidReplicasFoundBySentinel => Self::TryAgain,
            // An answer that was cut off.
            ErrorKind::Parse => Self::TryAgain,
            _ if TEMPORARY.iter().any(|word| text.contains(word)) => Self::TryAgain,
            _ if is_of_no_use(error) => Self::TryAgain,
            _ => refuse(BrokerError::protocol(text)),
        }
    }
}

/// What these are called where redis-rs has no name for them, or a script hides them in a text.
const TEMPORARY: [&str; 11] = [
    "READONLY",
    "MASTERDOWN",
    "LOADING",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "BUSY",
    "NOREPLICAS",
    "MISCONF",
    "sentinel",
    // A master that became a replica while a call waited for its replicas.
    "UNBLOCKED",
    "WAIT cannot be used with replica",
];

/// What time it is in Redis, where a script has refused a call that arrived late.
fn late(text: &str) -> Option<Timestamp> {
    let (_, rest) = text.split_once("ASYNQUEUE_LATE ")?;
    let end = rest.find(|c: char| !c.is_ascii_digit());
    let now = rest[..end.unwrap_or(rest.len())].parse().ok()?;
    Some(Timestamp::from_millis(now))
}

fn is_temporary(kind: ServerErrorKind) -> bool {
    matches!(
        kind,
        ServerErrorKind::BusyLoading
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ReadOnly
    )
}

/// What to do about a server that does not let this client do what it has to.
pub(super) fn hint(error: &RedisError, text: &str) -> Option<&'static str> {
    if text.contains("NOAUTH") || text.contains("Authentication required") {
        Some("write user and password into the URL, as in `redis://user:password@host`")
    } else if text.contains("WRONGPASS") || error.kind() == ErrorKind::AuthenticationFailed {
        Some("user or password is wrong")
    } else {
        None
    }
}

/// Whether a connection that gave this error should not be used any more.
pub(super) fn is_of_no_use(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.is_timeout()
        || error.is_io_error()
        || error.is_connection_dropped()
        // A master that is one no longer: the new one is elsewhere.
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
        || error.to_string().contains("READONLY")
}
