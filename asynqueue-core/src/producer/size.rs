//! The size of a task: its payload and everything that a caller adds.

use super::{EnqueueError, Producer};
use crate::task::Envelope;

impl Producer {
    /// Refuses a task that is larger than the limit. The event, the id and the queue do not count: they are short.
    pub(crate) fn check_size(&self, task: &Envelope) -> Result<(), EnqueueError> {
        let limit = self.0.max_payload;
        let size = parts(task).map(|(_, _, size)| size).sum();
        if size <= limit {
            return Ok(());
        }
        let largest = parts(task).max_by_key(|(_, _, size)| *size);
        let (field, key, field_size) = largest.unwrap_or_default();
        Err(EnqueueError::TooLarge {
            event: task.event.clone(),
            field: match key {
                Some(key) => format!("{field} `{key}`"),
                None => field.to_owned(),
            },
            field_size,
            size,
            limit,
        })
    }
}

/// The parts of a task, each with its name, the key if it is a header, and its size.
fn parts(task: &Envelope) -> impl Iterator<Item = (&'static str, Option<&str>, usize)> {
    let headers = task.headers.iter();
    let headers = headers.map(|(key, value)| ("header", Some(key), key.len() + value.len()));
    let unique = task
        .unique
        .as_ref()
        .map_or(0, |lock| lock.key.as_str().len());
    let group = task.options.group.as_ref().map_or(0, |group| group.len());
    [
        ("payload", None, task.payload.len()),
        ("unique_key", None, unique),
        ("group", None, group),
    ]
    .into_iter()
    .chain(headers)
}
