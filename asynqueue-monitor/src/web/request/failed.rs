//! The errors of requests. Pages and the API render them in their own ways.

use asynqueue_core::{
    broker::BrokerError,
    inspector::{AgainError, FindError, InvalidFilter, QueueError, UnknownAction},
    scheduler::ScheduleError,
    task::{InvalidQueueName, InvalidTaskId},
};

/// Why a request failed.
#[derive(Debug)]
pub(in crate::web) enum Failed {
    Broker(BrokerError),
    NotFound(String),
    Conflict(String),
    BadRequest(String),
    TooMany(String),
}

impl From<BrokerError> for Failed {
    fn from(error: BrokerError) -> Self {
        Self::Broker(error)
    }
}

impl From<ScheduleError> for Failed {
    fn from(error: ScheduleError) -> Self {
        match error {
            ScheduleError::Unknown { .. } => Self::NotFound(error.to_string()),
            ScheduleError::Broker(error) => Self::Broker(error),
            other => Self::BadRequest(other.to_string()),
        }
    }
}

impl From<AgainError> for Failed {
    fn from(error: AgainError) -> Self {
        match error {
            AgainError::NotFound(_) => Self::NotFound(error.to_string()),
            AgainError::Conflict(_) => Self::Conflict(error.to_string()),
            AgainError::Broker(error) => Self::Broker(error),
            other => Self::BadRequest(other.to_string()),
        }
    }
}

impl From<FindError> for Failed {
    fn from(error: FindError) -> Self {
        match error {
            FindError::Broker(error) => Self::Broker(error),
            other => Self::BadRequest(other.to_string()),
        }
    }
}

impl From<QueueError> for Failed {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Broker(error) => Self::Broker(error),
            other => Self::NotFound(other.to_string()),
        }
    }
}

/// Errors in the request itself.
macro_rules! bad_request {
    ($($error:ty),+ $(,)?) => { $(
        impl From<$error> for Failed {
            fn from(error: $error) -> Self {
                Self::BadRequest(error.to_string())
            }
        }
    )+ };
}

bad_request!(
    InvalidFilter,
    InvalidQueueName,
    InvalidTaskId,
    UnknownAction
);
