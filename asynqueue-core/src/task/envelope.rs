//! What travels from producer to worker.

use std::sync::Arc;

use bytes::Bytes;

use super::{Failure, Name, Run, TaskId, TaskOptions, TaskRef, Timestamp, UniqueLock};
use crate::codec::CodecName;

/// A task as brokers keep it: the encoded payload and all that is needed to run it.
///
/// The fields that few tasks use are behind one pointer each, since a broker holds millions of these.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Envelope {
    /// The task's id within its queue.
    pub id: TaskId,
    /// The queue the task is in.
    pub queue: Name,
    /// The event, which names the process.
    pub event: Name,
    /// What the payload is encoded with.
    pub codec: CodecName,
    /// The encoded payload.
    pub payload: Bytes,
    /// How to run it; shared by tasks of one type.
    pub options: Arc<TaskOptions>,
    /// The caller's own key-value pairs, such as a trace context.
    pub headers: Headers,
    /// When it was enqueued.
    pub enqueued_at: Timestamp,
    /// When it is no longer worth running.
    pub deadline: Option<Timestamp>,
    /// The lock it holds.
    pub unique: Option<Box<UniqueLock>>,
    /// Attempts that counted so far.
    pub attempts: u32,
    rest: Option<Box<Rest>>,
}

/// What few tasks have.
#[derive(Clone, Debug, Default, PartialEq)]
struct Rest {
    failures: Vec<Failure>,
    expires_at: Option<Timestamp>,
    completed: Option<Run>,
    unhandled_since: Option<Timestamp>,
    place: Option<u64>,
    /// Fields of a later version, kept for whoever knows them.
    unknown: Vec<(String, rmpv::Value)>,
}

impl Envelope {
    /// An envelope of `event` with nothing but a payload; set the other fields as needed.
    pub fn new(id: TaskId, event: impl Into<Name>, codec: CodecName, payload: Bytes) -> Self {
        Self::with_options(
            id,
            event.into(),
            codec,
            payload,
            TaskOptions::shared_default(),
        )
    }

    pub(crate) fn with_options(
        id: TaskId,
        event: Name,
        codec: CodecName,
        payload: Bytes,
        options: Arc<TaskOptions>,
    ) -> Self {
        Self {
            id,
            queue: options.queue.clone(),
            event,
            codec,
            payload,
            options,
            headers: Headers::default(),
            enqueued_at: Timestamp::default(),
            deadline: None,
            unique: None,
            attempts: 0,
            rest: None,
        }
    }

    /// Points at this task.
    pub fn task_ref(&self) -> TaskRef {
        TaskRef {
            queue: self.queue.clone(),
            id: self.id.clone(),
        }
    }

    /// The failed attempts, oldest first; the last [`Failure::KEPT`] of them.
    pub fn failures(&self) -> &[Failure] {
        self.rest.as_ref().map_or(&[], |rest| &rest.failures)
    }

    /// The attempt that failed last.
    pub fn last_failure(&self) -> Option<&Failure> {
        self.failures().last()
    }

    /// Keeps a failure with the task, and drops the oldest beyond [`Failure::KEPT`]. Whether it counts as an attempt
    /// is for the caller to say, in [`attempts`](Self::attempts).
    pub fn push_failure(&mut self, failure: Failure) {
        let failures = &mut self.rest.get_or_insert_default().failures;
        if failures.len() >= Failure::KEPT {
            failures.remove(0);
        }
        failures.push(failure.bounded());
    }

    /// When the task is no longer worth starting.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.rest.as_ref().and_then(|rest| rest.expires_at)
    }

    /// Sets when the task is no longer worth starting.
    pub fn set_expires_at(&mut self, time: Option<Timestamp>) {
        if time.is_some() || self.rest.is_some() {
            self.rest.get_or_insert_default().expires_at = time;
        }
    }

    /// The attempt that succeeded, of a completed task that is kept.
    pub fn completed(&self) -> Option<&Run> {
        self.rest.as_ref()?.completed.as_ref()
    }

    /// Notes the attempt that succeeded.
    pub fn set_completed(&mut self, run: Run) {
        self.rest.get_or_insert_default().completed = Some(run);
    }

    /// Since when servers give the task back because none of them knew its event.
    pub fn unhandled_since(&self) -> Option<Timestamp> {
        self.rest.as_ref().and_then(|rest| rest.unhandled_since)
    }

    /// Notes since when servers give the task back because none of them knew its event.
    pub fn set_unhandled_since(&mut self, time: Option<Timestamp>) {
        if time.is_some() || self.rest.is_some() {
            self.rest.get_or_insert_default().unhandled_since = time;
        }
    }

    /// The task's place in the line of the limit that it waits for. Places only compare: a lower one came earlier.
    pub fn place(&self) -> Option<u64> {
        self.rest.as_ref().and_then(|rest| rest.place)
    }

    /// Sets the task's place in the line of the limit that it waits for.
    pub fn set_place(&mut self, place: Option<u64>) {
        if place.is_some() || self.rest.is_some() {
            self.rest.get_or_insert_default().place = place;
        }
    }

    /// The same task once more, as if it were enqueued only now: its times lie as far ahead as they did then.
    pub(crate) fn anew(&self, id: TaskId, now: Timestamp) -> Self {
        let later = |time: Timestamp| now + time.since(self.enqueued_at);
        let mut task = self.clone();
        task.id = id;
        task.enqueued_at = now;
        task.deadline = self.deadline.map(later);
        task.attempts = 0;
        if let Some(rest) = &mut task.rest {
            rest.failures.clear();
            rest.completed = None;
            rest.unhandled_since = None;
            rest.place = None;
            rest.expires_at = rest.expires_at.map(later);
        }
        task
    }

    /// The group in which the task waits to become one with others: empty for all of its event. `None` if it is not to
    /// be [aggregated](TaskOptions::aggregate).
    pub fn aggregated_in(&self) -> Option<&Name> {
        static ALL: Name = Name::from_static("");
        self.options.aggregate.as_ref()?;
        Some(self.options.group.as_ref().unwrap_or(&ALL))
    }

    pub(super) fn unknown(&self) -> &[(String, rmpv::Value)] {
        self.rest.as_ref().map_or(&[], |rest| &rest.unknown)
    }

    pub(super) fn set_failures(&mut self, failures: Vec<Failure>) {
        self.rest.get_or_insert_default().failures = failures;
    }

    pub(super) fn push_unknown(&mut self, key: String, value: rmpv::Value) {
        self.rest.get_or_insert_default().unknown.push((key, value));
    }

    /// Whether another attempt is left after those that counted.
    pub fn may_retry(&self) -> bool {
        self.attempts <= self.options.max_retry
    }
}

/// Key-value pairs that travel with a task. Clones share them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Option<Arc<Pairs>>);

type Pairs = Vec<(Name, Box<str>)>;

impl Headers {
    /// Sets `key` to `value`.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<String>) {
        let (key, value) = (Name::from(key.into()), value.into().into_boxed_str());
        // Sorted by key. There are few: a map would take more.
        let pairs = Arc::make_mut(self.0.get_or_insert_default());
        match pairs.binary_search_by(|(known, _)| known.cmp(&key)) {
            Ok(place) => pairs[place].1 = value,
            Err(place) => pairs.insert(place, (key, value)),
        }
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        let pairs = self.0.as_ref()?;
        let place = pairs.binary_search_by(|(known, _)| known.as_str().cmp(key));
        Some(&pairs[place.ok()?].1)
    }

    /// All pairs, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.0.iter().flat_map(|pairs| pairs.iter());
        pairs.map(|(key, value)| (key.as_str(), &**value))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|pairs| pairs.is_empty())
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut headers = Self::default();
        pairs
            .into_iter()
            .for_each(|(key, value)| headers.insert(key, value));
        headers
    }
}
