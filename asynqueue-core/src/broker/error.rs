//! What a broker can refuse.

use crate::task::{TaskId, TaskRef, TaskState, UniqueKey};

/// The broker did not do what was asked.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// This handle on the broker was closed.
    #[error("the broker is closed: connect again to continue")]
    Closed,
    /// The broker cannot be reached; it may be again later.
    #[error("the broker is unavailable: {0}")]
    Unavailable(String),
    /// The broker has no room for more tasks.
    #[error("the broker takes no more tasks: {0}")]
    Full(String),
    /// The broker made the change, and it is not known to be as [durable](super::Durability) as asked for. Making it again is safe.
    #[error("the broker has it, but not as durably as asked for: {0}")]
    NotDurable(String),
    /// The broker does not offer what was asked for.
    #[error("the broker does not offer this: {0}")]
    Unsupported(String),
    /// The broker's answer was not what this version expects, or it refused the request for good.
    #[error("unexpected answer from the broker: {0}")]
    Protocol(String),
}

impl BrokerError {
    /// Whether the same call may succeed later. One that is not may succeed in parts.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_) | Self::Full(_) | Self::NotDurable(_)
        )
    }
}
crate::debug_as_text!(BrokerError);

/// What stands in the way of a new task.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
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
