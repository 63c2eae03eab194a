//! The rows of an outbox: waiting entries, failed ones, and the numbers that they get.

use serde::{Deserialize, Serialize};

use crate::{
    broker::{NewTask, When},
    task::{Envelope, Name, TaskId, Timestamp},
};

/// A waiting entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Identifies the entry in its table. It is never used for another one.
    pub place: u64,
    /// The number that it is sent under.
    pub number: u64,
    /// Whether it had the number before this [`take`](super::Outbox::take), so that it may have been sent before.
    pub was_sent: bool,
    /// The task.
    pub task: StoredTask,
}

/// A task as the columns of a table have it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTask {
    /// The queue that it is to be enqueued to.
    pub queue: String,
    /// The id that it gets.
    pub id: String,
    /// Its event, for people: the envelope has it too.
    pub event: String,
    /// The bytes of [`Envelope::to_bytes`].
    pub envelope: Vec<u8>,
    /// When it is to run. `None`: as soon as a worker is free.
    pub due: Option<Timestamp>,
}

impl StoredTask {
    /// The row of a task. A delay counts from the time at which the task was enqueued, not from the time at which it is
    /// relayed. The tick of a schedule entry is not kept: the relay sends the task under the number of its entry.
    pub fn of(task: &NewTask) -> Self {
        let envelope = &task.envelope;
        Self {
            queue: envelope.queue.to_string(),
            id: envelope.id.to_string(),
            event: envelope.event.to_string(),
            envelope: envelope.to_bytes(),
            due: match task.when {
                When::Now => None,
                When::After(delay) => Some(envelope.enqueued_at + delay),
                When::At(time) => Some(time),
            },
        }
    }

    /// The task to be enqueued.
    ///
    /// # Errors
    ///
    /// Why the row is not a task, for people.
    pub fn decode(&self) -> Result<NewTask, String> {
        let undecodable = |error: &dyn std::fmt::Display| {
            format!(
                "{error}: run the relay with a later version if one has written the entry, then retry it"
            )
        };
        let id = TaskId::new(self.id.as_str()).map_err(|error| undecodable(&error))?;
        let queue = Name::from(self.queue.as_str());
        let envelope = Envelope::from_bytes(queue, id, &self.envelope);
        let envelope = envelope.map_err(|error| undecodable(&error))?;
        Ok(NewTask::new(envelope, self.due.map_or(When::Now, When::At)))
    }
}

/// The outcome of an entry, for [`Outbox::finish`](super::Outbox::finish).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// The task was accepted, or refused for a conflict: the entry is removed.
    Remove(u64),
    /// The task cannot be enqueued for this reason: the entry is kept as failed.
    Fail(u64, String),
}

/// A failed entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedEntry {
    /// Identifies the entry in its table.
    pub place: u64,
    /// The queue that the task was to be enqueued to.
    pub queue: Name,
    /// The id of the task.
    pub id: String,
    /// The event of the task.
    pub event: Name,
    /// When the application wrote the entry, or when it was retried last.
    pub at: Timestamp,
    /// Why it failed.
    pub reason: String,
}

/// How many entries an outbox has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxSize {
    /// Waiting entries.
    pub waiting: u64,
    /// When the application wrote the oldest of them, or when it was retried last, by the clock of the database or of its machine.
    pub oldest: Option<Timestamp>,
    /// The time of this reading, by the same clock.
    pub now: Timestamp,
    /// Failed entries, which wait for a person.
    pub failed: u64,
}

/// Which failed entries a change concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// All of them.
    All,
    /// Those at these places. An entry that has not failed is left alone.
    These(&'a [u64]),
}

/// 1 January 2020, in milliseconds. Numbers count from here, so that they are half a century below the clock: a queue
/// ignores last numbers that are ahead of it.
const START: Timestamp = Timestamp::from_millis(1_577_836_800_000);

/// The number of an entry that the application wrote, or an operator retried, at the time `at`, if `last` is the last
/// number of this outbox: the milliseconds from 2020 to that time, or one more than the last number if that is higher.
///
/// This makes a database that was restored from a backup safe, although it has lost its last number. Entries that are
/// written afterwards get higher numbers than those before the loss, unless the outbox had more than 1,000 entries a
/// second on average for as long as the loss goes back. Entries that the backup contains get the numbers that they had,
/// or lower ones, so that they are refused if they were accepted before.
pub fn next_number(last: u64, at: Timestamp) -> u64 {
    let by_time = u64::try_from(at.since(START).as_millis()).unwrap_or_default();
    by_time.max(last.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::codec::{CodecName, MessagePack};

    fn task(when: When) -> NewTask {
        let codec = CodecName::of::<MessagePack>();
        let id = TaskId::new("order-7").expect("an id");
        let mut envelope = Envelope::new(id, "event", codec, Bytes::from_static(b"payload"));
        envelope.queue = "orders".into();
        envelope.enqueued_at = Timestamp::from_millis(1_000);
        envelope.headers.insert("key", "value");
        NewTask::new(envelope, when)
    }

    #[test]
    fn a_row_has_everything_that_a_task_has() {
        let at = Timestamp::from_millis(9_000);
        for when in [When::Now, When::At(at)] {
            let task = task(when);
            let decoded = StoredTask::of(&task).decode().expect("a task");
            assert_eq!((decoded.envelope, decoded.when), (task.envelope, task.when));
        }
    }

    #[test]
    fn a_delay_counts_from_the_time_of_enqueueing() {
        let decoded = StoredTask::of(&task(When::After(Duration::from_secs(5)))).decode();
        let at = Timestamp::from_millis(6_000);
        assert_eq!(decoded.expect("a task").when, When::At(at));
    }

    #[test]
    fn an_undecodable_row_says_what_is_wrong() {
        let mut row = StoredTask::of(&task(When::Now));
        row.envelope.truncate(3);
        let reason = row.decode().expect_err("it is cut");
        assert!(reason.starts_with("invalid task envelope: "), "{reason}");
        row.id = String::new();
        assert!(row.decode().is_err());
    }

    #[test]
    fn numbers_grow_with_the_clock_and_never_go_back() {
        let at = START + Duration::from_secs(5);
        assert_eq!(next_number(0, at), 5_000);
        assert_eq!(next_number(5_000, at), 5_001);
        assert_eq!(next_number(9_000, at), 9_001);
        // Before 2020, by a clock that is wrong.
        assert_eq!(next_number(7, Timestamp::from_millis(1)), 8);
    }
}
