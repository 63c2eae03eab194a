//! Running a task once more, whatever has become of it.

use bytes::Bytes;
use serde_json::Value;

use super::{Inspector, redact::MARKER};
use crate::{
    broker::{BrokerError, Conflict, NewTask, When},
    task::{Envelope, TaskId, TaskRef, UniqueKey, UniqueUntil},
};

/// A task was not enqueued again.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum AgainError {
    /// There is no such task.
    #[error("there is no task `{0}`: it never was, or is done and not kept, or was deleted")]
    NotFound(TaskRef),
    /// The codec of the task cannot represent the payload.
    #[error("the payload cannot be encoded: {0}")]
    NotEncoded(String),
    /// Another task holds its unique lock.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The broker did not answer.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

crate::debug_as_text!(AgainError);

impl Inspector {
    /// Enqueues a new task that is like another, whatever the state of that: with the same event, queue, options and headers, no
    /// attempts behind it, and with this payload, if there is one, in place of the other's. Fields that are
    /// [redacted](Self::redact) keep their values where `"[redacted]"` stands for them. Returns the new task.
    ///
    /// A unique key is the new task's too, so that it is refused while another task holds the lock, such as the one that it is
    /// like while that waits or runs. Once that has come to its end, a lock [for a window](crate::task::UniqueUntil::Window) is not in
    /// its way: the new task gets a key of its own. The same holds for the key that keeps a
    /// [published](crate::producer::Producer::publish) event from being delivered twice.
    ///
    /// # Errors
    ///
    /// When there is no such task, the payload cannot be encoded, another task holds the unique lock of both, or the broker
    /// cannot be reached.
    pub async fn enqueue_again(
        &self,
        task: &TaskRef,
        payload: Option<&Value>,
    ) -> Result<TaskRef, AgainError> {
        let found = self.task(task).await?;
        let found = found.ok_or_else(|| AgainError::NotFound(task.clone()))?;
        let like = found.envelope;
        let now = self.broker.now();
        let mut envelope = like.anew(TaskId::generate_at(now), now);
        if found.state.is_final()
            && let Some(lock) = &mut envelope.unique
            && lock.until == UniqueUntil::Window
        {
            lock.key = UniqueKey::of_task(&envelope.id);
        }
        if let Some(payload) = payload {
            let bytes = self.viewer.edit(&like.codec, &like.payload, payload);
            let bytes = bytes.map_err(|error| AgainError::NotEncoded(error.to_string()))?;
            envelope.payload = Bytes::from(bytes);
        }
        let new = envelope.task_ref();
        let when = When::Now;
        let answers = self
            .broker
            .enqueue(vec![NewTask::new(envelope, when)])
            .await?;
        match answers.into_iter().next() {
            Some(Err(conflict)) => Err(self.hidden(conflict, &like).into()),
            _ => Ok(new),
        }
    }

    /// A conflict, without a key that tells of redacted fields.
    fn hidden(&self, conflict: Conflict, like: &Envelope) -> Conflict {
        match conflict {
            Conflict::Unique { key, holder, state } if self.hides(&key, like) => {
                let key = UniqueKey::new(MARKER);
                Conflict::Unique { key, holder, state }
            }
            other => other,
        }
    }
}
