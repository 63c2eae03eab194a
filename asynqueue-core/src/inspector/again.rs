//! Enqueueing a copy of a task, regardless of the task's state.

use bytes::Bytes;
use serde_json::Value;

use super::{AuditEntry, AuditTarget, Inspector, redact::MARKER};
use crate::{
    broker::{BrokerError, Conflict, NewTask, When},
    task::{Envelope, TaskId, TaskRef, UniqueKey, UniqueUntil},
};

/// Enqueueing a task again failed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum AgainError {
    /// The task does not exist.
    #[error(
        "task `{0}` does not exist: it was never enqueued, completed without retention, or was deleted"
    )]
    NotFound(TaskRef),
    /// The task's codec cannot encode the payload.
    #[error("could not encode the payload: {0}")]
    NotEncoded(String),
    /// Another task holds its unique lock.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The broker call failed.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

crate::debug_as_text!(AgainError);

impl Inspector {
    /// Enqueues a copy of a task, regardless of that task's state: with the same event, queue, options and headers,
    /// without attempts, and with `payload`, if given, in place of the original's. [Redacted](Self::redact) fields
    /// whose value is `"[redacted]"` keep their value. The copy keeps the
    /// [idempotency key](crate::process::Context::idempotency_key) of the original. Returns the new task.
    ///
    /// The copy has the same unique key, so it is refused while another task holds the lock, for example the original
    /// while it waits or runs. Once the original has finished, its lock [for a
    /// window](crate::task::UniqueUntil::Window) does not block the copy, which then gets a different key. The same
    /// applies to the key that prevents duplicate deliveries of a [published](crate::producer::Producer::publish)
    /// event.
    ///
    /// # Errors
    ///
    /// When the task does not exist, the payload cannot be encoded, another task holds the unique lock, or the broker
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
        let mut envelope = like.copied(TaskId::generate_at(now), now);
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
        let edit = payload.is_some().then(|| self.edit_of(&like, &envelope));
        let new = envelope.task_ref();
        let when = When::Now;
        let results = self
            .broker
            .enqueue(vec![NewTask::new(envelope, when)])
            .await?;
        match results.into_iter().next() {
            Some(Err(conflict)) => Err(self.hidden(conflict, &like).into()),
            _ => {
                let on = AuditTarget::Queue(task.queue.clone());
                let entry = AuditEntry::new(AuditEntry::AGAIN, on).changed(&task.id);
                let entry = entry.enqueued(&new);
                self.record([AuditEntry { edit, ..entry }]).await;
                Ok(new)
            }
        }
    }

    /// A conflict without a key that reveals redacted fields.
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
