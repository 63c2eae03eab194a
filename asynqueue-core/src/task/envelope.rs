//! What travels from producer to worker.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Failure, FailureKind, Name, Run, TaskId, TaskOptions, TaskRef, Timestamp, UniqueKey, UniqueLock,
};
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
    /// Whether a worker has begun it, of a task that expires.
    begun: bool,
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

    /// The task as it is archived because it was cancelled for this reason.
    #[must_use]
    pub fn cancelled(&self, reason: &str, now: Timestamp) -> Self {
        let mut task = self.clone();
        let kind = FailureKind::Cancelled;
        task.push_failure(Failure::new(self.attempts, now, kind, reason));
        task
    }

    /// When the task is no longer worth starting, unless a worker has begun it [by then](Self::is_expired).
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.rest.as_ref().and_then(|rest| rest.expires_at)
    }

    /// Sets when the task is no longer worth starting.
    pub fn set_expires_at(&mut self, time: Option<Timestamp>) {
        if time.is_some() || self.rest.is_some() {
            self.rest.get_or_insert_default().expires_at = time;
        }
    }

    /// Whether it may no longer start, since no worker has begun it before it [expires](Self::expires_at). Once a worker has
    /// begun it, it does not expire, whatever became of that attempt.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at().is_some_and(|time| time <= now) && !self.has_begun()
    }

    /// Until when it may start; `None` if at any time. Once begun, it does not expire.
    pub(crate) fn latest_start(&self) -> Option<Timestamp> {
        let expires = self.expires_at().filter(|_| !self.has_begun());
        [self.deadline, expires].into_iter().flatten().min()
    }

    fn has_begun(&self) -> bool {
        // A refusal counts as an attempt, and that count may have been set back.
        let is_start = |failure: &Failure| failure.is_attempt() && !failure.is_refusal();
        let refusals = self
            .failures()
            .iter()
            .filter(|failure| failure.is_refusal());
        self.begun()
            || self.failures().iter().any(is_start)
            || self.attempts as usize > refusals.count()
    }

    /// Notes that a worker begins a task that may [expire](Self::is_expired): it may come back without a failure.
    pub(crate) fn begin(self: &mut Arc<Self>) {
        if self.expires_at().is_some() && !self.has_begun() {
            Arc::make_mut(self).set_begun();
        }
    }

    pub(super) fn begun(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.begun)
    }

    pub(super) fn set_begun(&mut self) {
        self.rest.get_or_insert_default().begun = true;
    }

    /// The task as it can be run on request, if it would not be started as it is: its deadline has passed, or it has
    /// expired. Its times then lie as far ahead as they did when it was enqueued, and count as of now.
    pub fn renewed(&self, now: Timestamp) -> Option<Self> {
        let is_late = self.deadline.is_some_and(|deadline| deadline <= now);
        (is_late || self.is_expired(now)).then(|| {
            let mut task = self.clone();
            task.move_times(now);
            task
        })
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
    ///
    /// A key that is the task's own id becomes the new id, or the copy would be refused because of itself.
    pub(crate) fn anew(&self, id: TaskId, now: Timestamp) -> Self {
        let mut task = self.clone();
        if let Some(lock) = task.unique.as_mut().filter(|lock| lock.is_of(&self.id)) {
            lock.key = UniqueKey::of_task(&id);
        }
        task.id = id;
        task.move_times(now);
        task.attempts = 0;
        if let Some(rest) = &mut task.rest {
            rest.failures.clear();
            rest.begun = false;
            rest.completed = None;
            rest.unhandled_since = None;
            rest.place = None;
        }
        task
    }

    /// Moves all times as if it were enqueued only now.
    fn move_times(&mut self, now: Timestamp) {
        let before = std::mem::replace(&mut self.enqueued_at, now);
        let later = |time: Timestamp| now + time.since(before);
        self.deadline = self.deadline.map(later);
        if let Some(rest) = &mut self.rest {
            rest.expires_at = rest.expires_at.map(later);
        }
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

    /// Sets all that workers note on a task.
    pub(super) fn set_noted(
        &mut self,
        failures: Vec<Failure>,
        begun: bool,
        completed: Option<Run>,
        unhandled_since: Option<Timestamp>,
        place: Option<u64>,
    ) {
        let rest = self.rest.get_or_insert_default();
        rest.failures = failures;
        rest.begun = begun;
        rest.completed = completed;
        rest.unhandled_since = unhandled_since;
        rest.place = place;
        if **rest == Rest::default() {
            self.rest = None;
        }
    }

    /// Puts a field of a later version in place of that which is there.
    pub(super) fn put_unknown(&mut self, key: String, value: rmpv::Value) {
        let unknown = &mut self.rest.get_or_insert_default().unknown;
        unknown.retain(|(known, _)| *known != key);
        unknown.push((key, value));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{codec::MessagePack, task::FailureKind};

    const fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    /// Enqueued at 1,000, and to be begun within 500 ms.
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
    fn a_task_expires_unless_a_worker_has_begun_it() {
        let begun = {
            let mut task = Arc::new(expiring());
            task.begin();
            Envelope::clone(&task)
        };
        let kinds = [
            FailureKind::Error,
            FailureKind::LeaseExpired,
            FailureKind::Timeout,
        ];
        assert!(!expiring().is_expired(at(1_499)));
        assert!(expiring().is_expired(at(1_500)));
        assert!(!begun.is_expired(at(1_500)));
        for kind in kinds {
            // Also if such a failure does not count.
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
    fn a_task_without_an_expiry_is_not_copied_to_note_its_beginning() {
        let mut task = expiring();
        task.set_expires_at(None);
        let task = Arc::new(task);
        let mut same = Arc::clone(&task);
        same.begin();
        assert!(Arc::ptr_eq(&task, &same));
    }

    #[test]
    fn renewed_times_lie_as_far_ahead_as_they_did_however_often() {
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
