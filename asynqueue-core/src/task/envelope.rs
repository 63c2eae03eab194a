//! The envelope: a task as it is passed from producer to worker.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Failure, FailureKind, Name, Run, TaskId, TaskOptions, TaskRef, Timestamp, UniqueKey, UniqueLock,
};
use crate::codec::CodecName;

/// A task as brokers store it: the encoded payload and everything needed to run it.
///
/// Rarely used fields are behind pointers, because a broker holds millions of envelopes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Envelope {
    /// The task's id, unique in its queue.
    pub id: TaskId,
    /// The queue the task is in.
    pub queue: Name,
    /// The event, which selects the handler.
    pub event: Name,
    /// The codec of the payload.
    pub codec: CodecName,
    /// The encoded payload.
    pub payload: Bytes,
    /// How to run the task. Shared by tasks of one type.
    pub options: Arc<TaskOptions>,
    /// Key-value pairs of the caller, and the trace context.
    pub headers: Headers,
    /// When the task was enqueued.
    pub enqueued_at: Timestamp,
    /// When the task must be done: it is not run after this. `None`: no limit.
    pub deadline: Option<Timestamp>,
    /// The unique lock of the task, if it is unique.
    pub unique: Option<Box<UniqueLock>>,
    /// How many attempts have counted so far.
    pub attempts: u32,
    rest: Option<Box<Rest>>,
}

/// The rarely used fields.
#[derive(Clone, Debug, Default, PartialEq)]
struct Rest {
    failures: Vec<Failure>,
    expires_at: Option<Timestamp>,
    /// Whether a worker has started the task; recorded only for tasks that expire.
    started: bool,
    completed: Option<Run>,
    unhandled_since: Option<Timestamp>,
    place: Option<u64>,
    origin: Option<TaskId>,
    /// Fields of a later version, kept for servers of that version.
    unknown: Vec<(String, rmpv::Value)>,
}

impl Envelope {
    /// An envelope of `event` with only a payload. Set the other fields as needed.
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

    /// A reference to this task.
    pub fn task_ref(&self) -> TaskRef {
        TaskRef {
            queue: self.queue.clone(),
            id: self.id.clone(),
        }
    }

    /// The failed attempts, oldest first: the last [`Failure::KEPT`] of them.
    pub fn failures(&self) -> &[Failure] {
        self.rest.as_ref().map_or(&[], |rest| &rest.failures)
    }

    /// The most recent failure.
    pub fn last_failure(&self) -> Option<&Failure> {
        self.failures().last()
    }

    /// Adds a failure, and drops the oldest beyond [`Failure::KEPT`]. The caller decides whether it counts as an
    /// attempt, and sets [`attempts`](Self::attempts).
    pub fn push_failure(&mut self, failure: Failure) {
        let failures = &mut self.rest.get_or_insert_default().failures;
        if failures.len() >= Failure::KEPT {
            failures.remove(0);
        }
        failures.push(failure.bounded());
    }

    /// The task with a failure of kind `Cancelled` for this reason, to be archived.
    #[must_use]
    pub fn cancelled(&self, reason: &str, now: Timestamp) -> Self {
        let mut task = self.clone();
        let kind = FailureKind::Cancelled;
        task.push_failure(Failure::new(self.attempts, now, kind, reason));
        task
    }

    /// The time until which the task must start. Has no effect once a worker [has started](Self::is_expired) it.
    /// `None`: no limit.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.rest.as_ref().and_then(|rest| rest.expires_at)
    }

    /// Sets the time until which the task must start.
    pub fn set_expires_at(&mut self, time: Option<Timestamp>) {
        if time.is_some() || self.rest.is_some() {
            self.rest.get_or_insert_default().expires_at = time;
        }
    }

    /// Whether the task must not start any more, because no worker started it before it
    /// [expired](Self::expires_at). Once a worker has started it, it never expires, regardless of the attempt's
    /// outcome.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at().is_some_and(|time| time <= now) && !self.has_started()
    }

    /// The time until which it may start. `None` if there is no limit, or once it has started.
    pub(crate) fn latest_start(&self) -> Option<Timestamp> {
        let expires = self.expires_at().filter(|_| !self.has_started());
        [self.deadline, expires].into_iter().flatten().min()
    }

    fn has_started(&self) -> bool {
        // A refusal counts as an attempt, and that count may have been reset.
        let is_start = |failure: &Failure| failure.is_attempt() && !failure.is_refusal();
        let refusals = self
            .failures()
            .iter()
            .filter(|failure| failure.is_refusal());
        self.is_started()
            || self.failures().iter().any(is_start)
            || self.attempts as usize > refusals.count()
    }

    /// Records the start of a task that may [expire](Self::is_expired), because it may be released without a
    /// failure.
    pub(crate) fn record_start(self: &mut Arc<Self>) {
        if self.expires_at().is_some() && !self.has_started() {
            Arc::make_mut(self).set_started();
        }
    }

    pub(super) fn is_started(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.started)
    }

    pub(super) fn set_started(&mut self) {
        self.rest.get_or_insert_default().started = true;
    }

    /// The task with new times, if it would not start as it is because its deadline has passed or it has expired.
    /// The new times are as far from `now` as the old ones were from the enqueueing.
    pub fn renewed(&self, now: Timestamp) -> Option<Self> {
        let is_late = self.deadline.is_some_and(|deadline| deadline <= now);
        (is_late || self.is_expired(now)).then(|| {
            let mut task = self.clone();
            task.move_times(now);
            task
        })
    }

    /// The attempt that succeeded. Only set in a completed task.
    pub fn completed(&self) -> Option<&Run> {
        self.rest.as_ref()?.completed.as_ref()
    }

    /// Records the attempt that succeeded.
    pub fn set_completed(&mut self, run: Run) {
        self.rest.get_or_insert_default().completed = Some(run);
    }

    /// Since when servers have been releasing the task because none of them has a handler for its event.
    pub fn unhandled_since(&self) -> Option<Timestamp> {
        self.rest.as_ref().and_then(|rest| rest.unhandled_since)
    }

    /// Records since when servers have been releasing the task because none of them has a handler for its event.
    pub fn set_unhandled_since(&mut self, time: Option<Timestamp>) {
        if time.is_some() || self.rest.is_some() {
            self.rest.get_or_insert_default().unhandled_since = time;
        }
    }

    /// The task's place in the queue of the limit that it waits for. Places are only compared: a lower one is earlier.
    pub fn place(&self) -> Option<u64> {
        self.rest.as_ref().and_then(|rest| rest.place)
    }

    /// Sets the task's place in the queue of the limit that it waits for.
    pub fn set_place(&mut self, place: Option<u64>) {
        if place.is_some() || self.rest.is_some() {
            self.rest.get_or_insert_default().place = place;
        }
    }

    /// The id of the task that this one is a copy of. Of a copy of a copy, that of the first task.
    pub fn origin(&self) -> Option<&TaskId> {
        self.rest.as_ref()?.origin.as_ref()
    }

    /// Records the id of the task that this one is a copy of.
    pub fn set_origin(&mut self, origin: Option<TaskId>) {
        if origin.is_some() || self.rest.is_some() {
            self.rest.get_or_insert_default().origin = origin;
        }
    }

    /// A copy of the task, as if it were enqueued now: its times are shifted accordingly.
    ///
    /// If the unique key is the task's id, it becomes the new id; otherwise the original would block the copy.
    pub(crate) fn copied(&self, id: TaskId, now: Timestamp) -> Self {
        let mut task = self.clone();
        if let Some(lock) = task.unique.as_mut().filter(|lock| lock.is_of(&self.id)) {
            lock.key = UniqueKey::of_task(&id);
        }
        task.set_origin(Some(self.origin().unwrap_or(&self.id).clone()));
        task.id = id;
        task.move_times(now);
        task.attempts = 0;
        if let Some(rest) = &mut task.rest {
            rest.failures.clear();
            rest.started = false;
            rest.completed = None;
            rest.unhandled_since = None;
            rest.place = None;
        }
        task
    }

    /// Shifts all times as if the task were enqueued now.
    fn move_times(&mut self, now: Timestamp) {
        let before = std::mem::replace(&mut self.enqueued_at, now);
        let later = |time: Timestamp| now + time.since(before);
        self.deadline = self.deadline.map(later);
        if let Some(rest) = &mut self.rest {
            rest.expires_at = rest.expires_at.map(later);
        }
    }

    /// The group in which the task waits to be [aggregated](TaskOptions::aggregate). Empty for the group of all
    /// tasks without a group name. `None` if it is not to be aggregated.
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

    /// Sets all fields that workers change.
    pub(super) fn set_noted(
        &mut self,
        failures: Vec<Failure>,
        started: bool,
        completed: Option<Run>,
        unhandled_since: Option<Timestamp>,
        place: Option<u64>,
    ) {
        let rest = self.rest.get_or_insert_default();
        rest.failures = failures;
        rest.started = started;
        rest.completed = completed;
        rest.unhandled_since = unhandled_since;
        rest.place = place;
        if **rest == Rest::default() {
            self.rest = None;
        }
    }

    /// Replaces a field of a later version.
    pub(super) fn put_unknown(&mut self, key: String, value: rmpv::Value) {
        let unknown = &mut self.rest.get_or_insert_default().unknown;
        unknown.retain(|(known, _)| *known != key);
        unknown.push((key, value));
    }

    pub(super) fn push_unknown(&mut self, key: String, value: rmpv::Value) {
        self.rest.get_or_insert_default().unknown.push((key, value));
    }

    /// Whether attempts are left.
    pub fn may_retry(&self) -> bool {
        self.attempts <= self.options.max_retry
    }
}

/// Key-value pairs of a task. Clones share them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Option<Arc<Pairs>>);

type Pairs = Vec<(Name, Box<str>)>;

impl Headers {
    /// Sets `key` to `value`.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<String>) {
        let (key, value) = (Name::from(key.into()), value.into().into_boxed_str());
        // A sorted list: there are few pairs, and a map would take more memory.
        let pairs = Arc::make_mut(self.0.get_or_insert_default());
        match pairs.binary_search_by(|(known, _)| known.cmp(&key)) {
            Ok(place) => pairs[place].1 = value,
            Err(place) => pairs.insert(place, (key, value)),
        }
    }

    /// Removes `key`.
    pub fn remove(&mut self, key: &str) {
        let has_key =
            |pairs: &&mut Arc<Pairs>| pairs.iter().any(|(known, _)| known.as_str() == key);
        if let Some(pairs) = self.0.as_mut().filter(has_key) {
            Arc::make_mut(pairs).retain(|(known, _)| known.as_str() != key);
        }
        if self.is_empty() {
            self.0 = None;
        }
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        let pairs = self.0.as_ref()?;
        let place = pairs.binary_search_by(|(known, _)| known.as_str().cmp(key));
        Some(&pairs[place.ok()?].1)
    }

    /// All pairs, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.0.iter().flat_map(|pairs| pairs.iter());
        pairs.map(|(key, value)| (key.as_str(), &**value))
    }

    /// Whether there are no pairs.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{codec::MessagePack, task::FailureKind};

    const fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    /// Enqueued at 1,000, and to start within 500 ms.
    fn expiring() -> Envelope {
        let codec = CodecName::of::<MessagePack>();
        let mut task = Envelope::new(TaskId::generate(), "event", codec, Bytes::new());
        task.enqueued_at = at(1_000);
        task.set_expires_at(Some(at(1_500)));
        task
    }

    fn failed(mut task: Envelope, kind: FailureKind, counts: bool) -> Envelope {
        task.attempts += u32::from(counts);
        task.push_failure(Failure {
            attempt: 1,
            started: None,
            at: at(1_200),
            kind,
            message: "no".into(),
            backtrace: None,
            worker: (kind != FailureKind::Shelved).then(|| "worker".into()),
        });
        task
    }

    #[test]
    fn a_task_expires_unless_a_worker_has_started_it() {
        let started = {
            let mut task = Arc::new(expiring());
            task.record_start();
            Envelope::clone(&task)
        };
        let kinds = [
            FailureKind::Error,
            FailureKind::LeaseExpired,
            FailureKind::Timeout,
        ];
        assert!(!expiring().is_expired(at(1_499)));
        assert!(expiring().is_expired(at(1_500)));
        assert!(!started.is_expired(at(1_500)));
        for kind in kinds {
            // Even if such a failure does not count.
            for counts in [true, false] {
                let task = failed(expiring(), kind, counts);
                assert!(!task.is_expired(at(1_500)), "{kind} {counts}");
            }
        }
        for (kind, counts) in [
            (FailureKind::Expired, true),
            (FailureKind::UnknownEvent, true),
            (FailureKind::UnknownEvent, false),
            (FailureKind::Shelved, false),
        ] {
            assert!(
                failed(expiring(), kind, counts).is_expired(at(1_500)),
                "{kind}"
            );
        }
    }

    #[test]
    fn a_task_without_an_expiry_is_not_copied_to_record_its_start() {
        let mut task = expiring();
        task.set_expires_at(None);
        let task = Arc::new(task);
        let mut same = Arc::clone(&task);
        same.record_start();
        assert!(Arc::ptr_eq(&task, &same));
    }

    #[test]
    fn renewed_times_keep_their_distance_each_time() {
        let mut task = expiring();
        task.deadline = Some(at(3_000));
        assert_eq!(task.renewed(at(1_499)), None);
        let once = task.renewed(at(10_000)).expect("expired");
        let times = |task: &Envelope| (task.enqueued_at, task.expires_at(), task.deadline);
        assert_eq!(
            times(&once),
            (at(10_000), Some(at(10_500)), Some(at(12_000)))
        );
        let twice = once.renewed(at(20_000)).expect("expired");
        assert_eq!(
            times(&twice),
            (at(20_000), Some(at(20_500)), Some(at(22_000)))
        );
        let expired = failed(task, FailureKind::Expired, true);
        assert!(expired.renewed(at(10_000)).is_some());
    }
}
