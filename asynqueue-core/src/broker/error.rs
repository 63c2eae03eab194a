//! Errors of brokers, and why a task was refused.

use std::{error::Error, fmt, sync::Arc};

use crate::task::{TaskId, TaskRef, TaskState, UniqueKey};

/// A broker call failed.
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
    /// This broker handle was closed.
    Closed,
    /// The broker cannot be reached. A later call may succeed.
    Unavailable(Reason),
    /// The broker has no room for more tasks.
    Full(Reason),
    /// The broker made the change but could not confirm the requested [durability](super::Durability). Making it again
    /// is safe.
    NotDurable(Reason),
    /// The broker does not offer this feature.
    Unsupported(Reason),
    /// The broker's response was unexpected, or it rejected the request permanently.
    Protocol(Reason),
}

/// Why a broker call failed: a message and, if known, the underlying error. Clones share it.
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

    /// The message without the messages of its causes.
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
    /// The broker [cannot be reached](Self::Unavailable).
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::Unavailable(Reason::new(message.into()))
    }

    /// The broker has [no room](Self::Full).
    pub fn full(message: impl Into<String>) -> Self {
        Self::Full(Reason::new(message.into()))
    }

    /// The change was made but may not be [durable](Self::NotDurable).
    pub fn not_durable(message: impl Into<String>) -> Self {
        Self::NotDurable(Reason::new(message.into()))
    }

    /// The broker [does not offer](Self::Unsupported) this feature.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::Unsupported(Reason::new(message.into()))
    }

    /// The broker's response was [unexpected](Self::Protocol).
    pub fn protocol(message: impl Into<String>) -> Self {
        Self::Protocol(Reason::new(message.into()))
    }

    /// Sets the underlying error, which becomes the [source](Error::source). [`Closed`](Self::Closed) has none.
    #[must_use]
    pub fn caused_by(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        if let Some(reason) = self.reason_mut() {
            Arc::make_mut(&mut reason.0).source = Some(Arc::new(source));
        }
        self
    }

    /// Whether the same call may succeed later. A call that fails with a permanent error may still have succeeded in
    /// part.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_) | Self::Full(_) | Self::NotDurable(_)
        )
    }

    /// The message and the underlying error, without the kind. `None` if it is [`Closed`](Self::Closed).
    pub fn reason(&self) -> Option<&Reason> {
        self.parts().1
    }

    /// The kind of the error in words, and the reason.
    fn parts(&self) -> (&'static str, Option<&Reason>) {
        match self {
            Self::Closed => ("the broker is closed: connect again to continue", None),
            Self::Unavailable(reason) => ("the broker is unavailable", Some(reason)),
            Self::Full(reason) => ("the broker is full", Some(reason)),
            Self::NotDurable(reason) => (
                "the broker made the change, but could not confirm the requested durability",
                Some(reason),
            ),
            Self::Unsupported(reason) => ("the broker does not support this", Some(reason)),
            Self::Protocol(reason) => ("unexpected response from the broker", Some(reason)),
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

/// Why a new task was refused.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Conflict {
    /// The queue has a task with this id.
    #[error("task {task} already exists and is {state}: use another id, or delete that task first")]
    Id {
        /// The existing task.
        task: TaskRef,
        /// The state of the existing task.
        state: TaskState,
    },
    /// The queue has already accepted a task for this [tick](super::NewTask::tick) or a later one.
    #[error("task {task} belongs to a tick that has already fired")]
    Fired {
        /// The refused task.
        task: TaskRef,
    },
    /// Another task holds the unique lock.
    #[error(
        "unique key `{}` is held by task {holder}, which is {state}: {}",
        key.as_str(),
        when_free(*state)
    )]
    Unique {
        /// The unique key that both tasks have.
        key: UniqueKey,
        /// The task that holds the key.
        holder: TaskId,
        /// The holder's state. `Completed` if the holder is no longer stored and the lock is held for a time window.
        state: TaskState,
    },
}

crate::debug_as_text!(Conflict);

/// When a unique key is free again.
fn when_free(holder: TaskState) -> &'static str {
    if holder.is_final() {
        "wait until the `ttl` of the key ends"
    } else {
        "wait until that task finishes or the `ttl` of the key ends"
    }
}

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
            "unexpected response from the broker: row 7 is not a task"
        );
        assert!(BrokerError::Closed.caused_by(fmt::Error).source().is_none());
    }

    #[test]
    fn a_unique_conflict_says_when_the_key_is_free() {
        let text = |state| {
            let holder = TaskId::new("order-42").expect("an id");
            let key = UniqueKey::new("k");
            Conflict::Unique { key, holder, state }.to_string()
        };
        assert_eq!(
            text(TaskState::Active),
            "unique key `k` is held by task order-42, which is active: wait until that task finishes or the `ttl` of the key ends"
        );
        assert_eq!(
            text(TaskState::Completed),
            "unique key `k` is held by task order-42, which is completed: wait until the `ttl` of the key ends"
        );
    }

    #[test]
    fn an_error_is_small_in_each_result() {
        assert_eq!(size_of::<BrokerError>(), 16);
    }
}
