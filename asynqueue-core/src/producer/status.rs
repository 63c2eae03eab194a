//! The status of an enqueued task, as its handle returns it and as JSON.

use serde::{Serialize, Serializer};

use crate::{
    broker::TaskInfo,
    process::Progress,
    task::{Name, TaskId, TaskState, Timestamp},
};

/// The status of an enqueued task.
///
/// A web service can serialize it into a response. The form is stable, though fields may be added:
///
/// | field | |
/// |---|---|
/// | `state` | the name of the [state](TaskState), such as `active`; or `gone`, without any other field |
/// | `queue`, `id`, `event` | the task's queue, id and event |
/// | `enqueued_at_ms` | when it was enqueued, in milliseconds since 1970 |
/// | `at_ms` | when it is due, will be deleted or was archived, depending on its state; else null |
/// | `attempts`, `max_retry` | how many attempts have failed and counted, and how many retries are allowed |
/// | `progress` | the last reported progress as `done`, `total` and `note`; else null |
/// | `error` | the message of the last failure; else null |
///
/// Payload, headers and result are left out, because not everyone who may see a status may see these. To decode a
/// result, use [`TaskHandle::result`](crate::producer::TaskHandle::result), or
/// [`Inspector::result`](crate::inspector::Inspector::result) for JSON.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use asynqueue_core::{memory::MemoryBroker, producer::Producer};
/// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
/// # #[task(event = "email:welcome", crate = asynqueue_core)]
/// # struct Welcome;
/// let task = Producer::new(MemoryBroker::new()).enqueue(Welcome).id("welcome-42").await?;
/// let status = serde_json::to_value(task.status().await?)?;
/// assert_eq!(status["state"], "pending");
/// assert_eq!(status["id"], "welcome-42");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum TaskStatus {
    /// The broker stores the task.
    Known(Box<TaskInfo>),
    /// The broker does not store the task: it completed without retention, is past its retention, or was deleted.
    Gone,
}

impl TaskStatus {
    /// The task's state. `None` if the task is gone.
    pub fn state(&self) -> Option<TaskState> {
        match self {
            Self::Known(info) => Some(info.state),
            Self::Gone => None,
        }
    }

    /// The state's name, or `gone`.
    pub fn state_name(&self) -> &'static str {
        self.state().map_or("gone", TaskState::as_str)
    }
}

/// The JSON of a stored task.
#[derive(Serialize)]
struct Known<'a> {
    state: &'static str,
    queue: &'a Name,
    id: &'a TaskId,
    event: &'a Name,
    enqueued_at_ms: Timestamp,
    at_ms: Option<Timestamp>,
    attempts: u32,
    max_retry: u32,
    progress: Option<&'a Progress>,
    error: Option<&'a str>,
}

/// The JSON of a task that is not stored.
#[derive(Serialize)]
struct Gone {
    state: &'static str,
}

impl Serialize for TaskStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let state = self.state_name();
        let Self::Known(info) = self else {
            return Gone { state }.serialize(serializer);
        };
        let envelope = &info.envelope;
        let error = envelope.last_failure();
        let known = Known {
            state,
            queue: &envelope.queue,
            id: &envelope.id,
            event: &envelope.event,
            enqueued_at_ms: envelope.enqueued_at,
            at_ms: info.at,
            attempts: envelope.attempts,
            max_retry: envelope.options.max_retry,
            progress: info.progress.as_ref(),
            error: error.map(|failure| failure.message.as_str()),
        };
        known.serialize(serializer)
    }
}
