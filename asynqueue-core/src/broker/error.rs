//! What a broker can refuse.

use std::{error::Error, fmt, sync::Arc};

use crate::task::{TaskId, TaskRef, TaskState, UniqueKey};

/// The broker did not do what was asked.
///
/// ```
/// use std::{error::Error, io};
///
/// use asynqueue_core::broker::BrokerError;
///
/// let cause = io::Error::from(io::ErrorKind::ConnectionRefused);
/// let error = BrokerError::unavailable("no connection to db:5432").caused_by(cause);
/// assert_eq!(error.to_string(), "the broker is unavailable: no connection to db:5432");
/// assert!(error.source().is_some_and(|cause| cause.is::<io::Error>()));
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum BrokerError {
    /// This handle on the broker was closed.
    Closed,
    /// The broker cannot be reached; it may be again later.
    Unavailable(Reason),
    /// The broker has no room for more tasks.
    Full(Reason),
    /// The broker made the change, and it is not known to be as [durable](super::Durability) as asked for. Making it again is safe.
    NotDurable(Reason),
    /// The broker does not offer what was asked for.
    Unsupported(Reason),
    /// The broker's answer was not what this version expects, or it refused the request for good.
    Protocol(Reason),
}

/// Why a broker did not do what was asked: a message, and the error that it comes from, if there is one. Clones share it.
#[derive(Clone)]
pub struct Reason(Arc<Parts>);

#[derive(Clone)]
struct Parts {
    message: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl Reason {
    fn new(message: String) -> Self {
        Self(Arc::new(Parts {
            message,
            source: None,
        }))
    }

    /// The message, without those of its causes.
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0.message, f)
    }
}

impl BrokerError {
    /// The broker [cannot be reached](Self::Unavailable) for now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::Unavailable(Reason::new(message.into()))
    }

    /// The broker has [no room](Self::Full).
    pub fn full(message: impl Into<String>) -> Self {
        Self::Full(Reason::new(message.into()))
    }

    /// The change was made, and may not be [durable](Self::NotDurable).
    pub fn not_durable(message: impl Into<String>) -> Self {
        Self::NotDurable(Reason::new(message.into()))
    }

    /// The broker [does not offer](Self::Unsupported) this.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::Unsupported(Reason::new(message.into()))
    }

    /// The broker's answer was [unexpected](Self::Protocol).
    pub fn protocol(message: impl Into<String>) -> Self {
        Self::Protocol(Reason::new(message.into()))
    }

    /// The same error with what it comes from, which is then its [source](Error::source). [`Closed`](Self::Closed) has none.
    #[must_use]
    pub fn caused_by(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        if let Some(reason) = self.reason_mut() {
            Arc::make_mut(&mut reason.0).source = Some(Arc::new(source));
        }
        self
    }

    /// Whether the same call may succeed later. One that is not may succeed in parts.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_) | Self::Full(_) | Self::NotDurable(_)
        )
    }

    /// What it is, and why.
    fn parts(&self) -> (&'static str, Option<&Reason>) {
        match self {
            Self::Closed => ("the broker is closed: connect again to continue", None),
            Self::Unavailable(reason) => ("the broker is unavailable", Some(reason)),
            Self::Full(reason) => ("the broker takes no more tasks", Some(reason)),
            Self::NotDurable(reason) => (
                "the broker has it, but not as durably as asked for",
                Some(reason),
            ),
            Self::Unsupported(reason) => ("the broker does not offer this", Some(reason)),
            Self::Protocol(reason) => ("unexpected answer from the broker", Some(reason)),
        }
    }

    fn reason_mut(&mut self) -> Option<&mut Reason> {
        match self {
            Self::Closed => None,
            Self::Unavailable(reason)
            | Self::Full(reason)
            | Self::NotDurable(reason)
            | Self::Unsupported(reason)
            | Self::Protocol(reason) => Some(reason),
        }
    }
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (what, Some(reason)) => write!(f, "{what}: {reason}"),
            (what, None) => f.write_str(what),
        }
    }
}

impl Error for BrokerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source = self.parts().1?.0.source.as_deref()?;
        Some(source)
    }
}

crate::debug_as_text!(BrokerError);

/// What stands in the way of a new task.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Conflict {
    /// The queue has a task with this id.
    #[error("task {task} exists already and is {state}: use another id, or delete that task first")]
    Id {
        /// The task that has the id.
        task: TaskRef,
        /// Its state.
        state: TaskState,
    },
    /// The queue has taken a task for this [tick](super::NewTask::tick), or a later one.
    #[error("task {task} is of a tick that was fired before")]
    Fired {
        /// The task that was refused.
        task: TaskRef,
    },
    /// Another task holds the unique lock.
    #[error("task {holder} holds the unique key `{}` and is {state}", key.as_str())]
    Unique {
        /// The key.
        key: UniqueKey,
        /// The task that holds it.
        holder: TaskId,
        /// The holder's state; completed if it is gone and the lock is held for a window.
        state: TaskState,
    },
}

crate::debug_as_text!(Conflict);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_the_source_of_the_error_and_of_its_clones() {
        let error = BrokerError::protocol("row 7 is not a task");
        assert!(error.source().is_none());
        let caused = error.clone().caused_by(fmt::Error);
        assert!(error.source().is_none(), "a clone was changed");
        let source =
            |error: &BrokerError| error.source().is_some_and(|cause| cause.is::<fmt::Error>());
        assert!(source(&caused) && source(&caused.clone()));
        assert_eq!(
            caused.to_string(),
            "unexpected answer from the broker: row 7 is not a task"
        );
        assert!(BrokerError::Closed.caused_by(fmt::Error).source().is_none());
    }

    #[test]
    fn an_error_takes_little_room_in_each_answer() {
        assert_eq!(size_of::<BrokerError>(), 16);
    }
}
