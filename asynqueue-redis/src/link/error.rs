//! Connect errors, and how calls react to errors of Redis.

use asynqueue_core::{broker::BrokerError, task::Timestamp};
use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::denied::Denied;
use crate::options::OptionsError;

/// A failure to connect to Redis.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The options are invalid.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// Redis does not respond.
    #[error("cannot reach Redis at {address}: {reason}")]
    Unreachable {
        /// The address that was tried.
        address: String,
        /// The cause.
        reason: String,
    },
    /// The program's own pool returned no connection.
    #[error("no connection to Redis at {address}: {reason}")]
    Pool {
        /// The address that was tried.
        address: String,
        /// What is missing, and the setting to change.
        reason: String,
    },
    /// The user or the password in the URL is wrong.
    #[error(
        "Redis at {address} refused the login: wrong user or password (WRONGPASS): correct them in the URL"
    )]
    WrongLogin {
        /// The address of the server.
        address: String,
    },
    /// Redis requires a password, and the URL has none.
    #[error(
        "Redis at {address} requires a password: write `redis://:password@host` or `redis://user:password@host`"
    )]
    NoLogin {
        /// The address of the server.
        address: String,
    },
    /// Redis has fewer databases.
    #[error(
        "Redis at {address} has no database {db}: use a lower number, or raise `databases` in its configuration"
    )]
    NoDatabase {
        /// The address of the server.
        address: String,
        /// The database in the URL.
        db: i64,
    },
    /// Redis refuses the connection or this user.
    #[error("Redis at {address} refused the connection: {reason}")]
    Refused {
        /// The address of the server.
        address: String,
        /// The cause and the fix.
        reason: String,
    },
    /// The server lacks required commands.
    #[error("Redis at {address} is version {found}: expected 6.2 or later")]
    TooOld {
        /// The address of the server.
        address: String,
        /// The version of the server.
        found: String,
    },
    /// The server does not offer the durability in the options.
    #[error("Redis at {address}: {reason}")]
    Durability {
        /// The address of the server.
        address: String,
        /// What is missing.
        reason: String,
    },
    /// The server is a node of a Cluster, which holds only some of the keys.
    #[error(
        "Redis at {address} is a node of a Cluster: write `redis+cluster://` instead of `redis://`"
    )]
    IsCluster {
        /// The address of the server.
        address: String,
    },
    /// The server is not a node of a Cluster.
    #[error("Redis at {address} is not a cluster: write `redis://` instead of `redis+cluster://`")]
    NoCluster {
        /// The address of the server.
        address: String,
    },
}

asynqueue_core::debug_as_text!(ConnectError);

impl From<ConnectError> for BrokerError {
    fn from(error: ConnectError) -> Self {
        Self::unavailable(error.to_string()).caused_by(error)
    }
}

/// How a call reacts to an error.
pub(super) enum Reaction {
    /// Send the script again, with its code.
    LoadScript,
    /// Retry later.
    TryAgain,
    /// Send again: the call arrived after its deadline and changed nothing. This is the time in Redis.
    SendAgain(Timestamp),
    /// Fail: a retry cannot succeed.
    Refuse(BrokerError),
    /// Fail: a retry cannot succeed until the user has the permission.
    Deny(Denied),
}

impl Reaction {
    pub(super) fn to(error: &RedisError) -> Self {
        let text = error.to_string();
        let refuse = |refused: BrokerError| Self::Refuse(refused.caused_by(error.clone()));
        // Older servers report the cause only in the text of a script's error.
        if text.contains("OOM") && text.contains("command not allowed") {
            let problem =
                "Redis has reached its `maxmemory`: raise it, or let the workers catch up";
            return refuse(BrokerError::full(problem));
        }
        if let Some(denied) = Denied::of(error, &text) {
            return Self::Deny(denied);
        }
        if text.contains("WRONGTYPE") {
            let hint = "a key with the prefix has an unexpected type: find it with `TYPE`, then delete or rename it";
            return refuse(BrokerError::unavailable(format!("{text}: {hint}")));
        }
        if let Some(now) = late(&text) {
            return Self::SendAgain(now);
        }
        if let Some(login) = LoginError::of(error, &text) {
            let hint = login.hint();
            return refuse(BrokerError::unavailable(format!("{text}: {hint}")));
        }
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::NoScript) => Self::LoadScript,
            ErrorKind::Server(kind) if is_temporary(kind) => Self::TryAgain,
            ErrorKind::Io
            | ErrorKind::ClusterConnectionNotFound
            | ErrorKind::MasterNameNotFoundBySentinel
            | ErrorKind::NoValidReplicasFoundBySentinel => Self::TryAgain,
            // The response was cut off.
            ErrorKind::Parse => Self::TryAgain,
            _ if TEMPORARY.iter().any(|word| text.contains(word)) => Self::TryAgain,
            _ if is_unusable(error) => Self::TryAgain,
            _ => refuse(BrokerError::protocol(text)),
        }
    }
}

/// Codes that redis-rs has no kind for, or that a script hides in its error text.
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
    // The master became a replica while a call waited for its replicas.
    "UNBLOCKED",
    "WAIT cannot be used with replica",
];

/// The time in Redis, if a script refused a call that arrived late.
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

/// Why Redis refuses a login.
#[derive(Clone, Copy)]
pub(super) enum LoginError {
    Missing,
    Wrong,
}

impl LoginError {
    pub(super) fn of(error: &RedisError, text: &str) -> Option<Self> {
        if text.contains("NOAUTH") || text.contains("Authentication required") {
            Some(Self::Missing)
        } else if error.kind() == ErrorKind::AuthenticationFailed
            // The connections of a Cluster report the kind only in their text.
            || ["WRONGPASS", "Password authentication failed"].iter().any(|sign| text.contains(sign))
        {
            Some(Self::Wrong)
        } else {
            None
        }
    }

    /// The cause and the fix with Sentinels, which have their own login.
    pub(super) fn of_sentinels(self) -> &'static str {
        match self {
            Self::Missing => {
                "the master or a Sentinel requires a password: write `redis+sentinel://user:password@host` for the master, `sentinel_password` for the Sentinels"
            }
            Self::Wrong => {
                "wrong user or password (WRONGPASS): correct the login of the master, or `sentinel_user` and `sentinel_password`, in the URL"
            }
        }
    }

    /// The fix in the error of a call. The connection was open before.
    fn hint(self) -> &'static str {
        match self {
            Self::Missing => {
                "write `redis://:password@host` or `redis://user:password@host` in the URL"
            }
            Self::Wrong => "wrong user or password: correct them in the URL",
        }
    }
}

/// The error as Redis and the operating system write it, without the words that redis-rs adds for programmers.
pub(super) fn plain(error: &RedisError) -> String {
    let text = error.to_string();
    let kind = format!(" - {:?}", error.kind());
    if text.contains(&kind) {
        return match error.detail() {
            // All nodes of a Cluster have failed, and the detail is the error of one of them.
            Some(detail) if error.kind() == ErrorKind::Io => detail.to_owned(),
            _ => text.replacen(&kind, "", 1),
        };
    }
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => text,
    }
}

/// Whether to stop using the connection that returned this error.
pub(super) fn is_unusable(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.is_timeout()
        || error.is_io_error()
        || error.is_connection_dropped()
        // This server is no longer the master.
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
        || error.to_string().contains("READONLY")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_shown_without_the_words_of_the_client() {
        let general = |kind, text, detail: &str| RedisError::from((kind, text, detail.to_owned()));
        let refused = std::io::Error::from_raw_os_error(111);
        for (error, expected) in [
            (
                RedisError::from((
                    ErrorKind::AuthenticationFailed,
                    "Password authentication failed",
                )),
                "Password authentication failed",
            ),
            (
                general(ErrorKind::Client, "the connection pool", "closed"),
                "the connection pool: closed",
            ),
            (
                general(
                    ErrorKind::Server(ServerErrorKind::ResponseError),
                    "Redis server refused to switch database",
                    "invalid DB index",
                ),
                "Redis server refused to switch database: invalid DB index",
            ),
            (
                general(
                    ErrorKind::Io,
                    "Failed to create initial connections",
                    "Connection refused (os error 111)",
                ),
                "Connection refused (os error 111)",
            ),
            (refused.into(), "Connection refused (os error 111)"),
        ] {
            assert_eq!(plain(&error), expected);
        }
    }
}
