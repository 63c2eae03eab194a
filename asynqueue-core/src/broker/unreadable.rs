//! Envelopes that this build cannot read. A later build may, so they are released unchanged, and archived only if no
//! process has read them for an hour.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{Leased, Outcome, Settlement, Store, all_of};
use crate::{ambient, sync::Mutex, task::TaskRef};

/// How long this process releases an envelope before it archives it.
const GRACE: Duration = Duration::from_secs(3600);

/// An envelope returns after as long as it has been known, so the wait doubles from the least to the most.
const LEAST_WAIT: Duration = Duration::from_secs(1);
const MOST_WAIT: Duration = Duration::from_secs(60);

/// An envelope that has not returned for this long was read by another process.
const READ_ELSEWHERE: Duration = Duration::from_secs(180);

/// The limit of remembered envelopes. Others are released too, and archived once there is room for them.
const MAX_KNOWN: usize = 10_000;

/// Leased tasks whose envelope this process cannot read, for a [`Store`]. A store keeps one value of this type, wraps
/// such an envelope in a substitute with the codec [`unreadable`](crate::codec::CodecName::unreadable), never replaces
/// the stored bytes by it, and [releases](Self::release) the lease.
///
/// The value remembers since when it has known each task. The time is not stored: nothing can be added to an envelope
/// that cannot be read, and this build must not replace it.
#[derive(Debug, Default)]
pub struct Unreadable(Mutex<HashMap<TaskRef, Known>>);

#[derive(Debug)]
struct Known {
    first: Instant,
    last: Instant,
}

impl Unreadable {
    /// Releases these leases, so that a later version of the program can take the tasks. A task that no process has
    /// read for an hour is archived. A lease that cannot be settled now expires, and the task is released again then.
    pub async fn release(&self, store: &dyn Store, leased: &[Leased]) {
        if leased.is_empty() {
            return;
        }
        let settlements: Vec<_> = leased.iter().map(|leased| self.settle(leased)).collect();
        if let Err(error) = all_of(store.settle(&settlements).await) {
            tracing::warn!(%error, "could not release unreadable tasks; retrying after their lease expires");
        }
    }

    fn settle(&self, leased: &Leased) -> Settlement {
        let task = leased.envelope.task_ref();
        let outcome = match self.wait(&task) {
            Some(wait) => {
                tracing::warn!(%task, "cannot read the task's envelope; releasing it for a later version of the program");
                // Jitter, so that a large backlog does not come back all in one moment.
                let delay = wait.mul_f64(0.75 + ambient::random::<f64>() / 2.0);
                Outcome::Snooze { delay }
            }
            None => {
                tracing::error!(%task, "no server could read the task's envelope for an hour; archiving the task");
                Outcome::Archive
            }
        };
        leased.clone().settle(outcome)
    }

    /// How long to release the task for. `None` if its time is up.
    fn wait(&self, task: &TaskRef) -> Option<Duration> {
        let now = Instant::now();
        let mut known = self.0.lock();
        if !known.contains_key(task) && known.len() >= MAX_KNOWN {
            known.retain(|_, known| now - known.last < READ_ELSEWHERE);
            if known.len() >= MAX_KNOWN {
                return Some(MOST_WAIT);
            }
        }
        let is_new = || Known {
            first: now,
            last: now,
        };
        let entry = known.entry(task.clone()).or_insert_with(is_new);
        entry.last = now;
        let age = now - entry.first;
        if age >= GRACE {
            known.remove(task);
            return None;
        }
        Some(age.clamp(LEAST_WAIT, MOST_WAIT))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::{
        broker::{LeaseRequest, NewTask, When},
        codec::CodecName,
        memory::MemoryBroker,
        task::{Envelope, TaskId, TaskState},
        testing::TestClock,
    };

    fn task(n: usize) -> TaskRef {
        TaskRef::new("q", TaskId::new(n.to_string()).expect("an id"))
    }

    #[tokio::test(start_paused = true)]
    async fn an_envelope_is_released_for_twice_as_long_each_time_and_archived_after_an_hour() {
        let unreadable = Unreadable::default();
        let seconds = |wait: Option<Duration>| wait.map(|wait| wait.as_secs());
        let mut waits = Vec::new();
        for _ in 0..7 {
            let wait = unreadable.wait(&task(1)).expect("released");
            waits.push(wait.as_secs());
            advance(wait).await;
        }
        assert_eq!(waits, [1, 1, 2, 4, 8, 16, 32]);
        assert_eq!(seconds(unreadable.wait(&task(1))), Some(60));
        advance(Duration::from_secs(3600 - 64 - 1)).await;
        assert_eq!(seconds(unreadable.wait(&task(1))), Some(60));
        advance(Duration::from_secs(1)).await;
        assert_eq!(unreadable.wait(&task(1)), None);
        assert_eq!(
            seconds(unreadable.wait(&task(1))),
            Some(1),
            "a task that is run again gets another hour"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_nothing_is_archived_for_lack_of_it() {
        let unreadable = Unreadable::default();
        (0..MAX_KNOWN).for_each(|n| {
            unreadable.wait(&task(n));
        });
        assert_eq!(unreadable.wait(&task(MAX_KNOWN)), Some(MOST_WAIT));
        assert_eq!(unreadable.0.lock().len(), MAX_KNOWN);
        advance(READ_ELSEWHERE).await;
        assert_eq!(unreadable.wait(&task(MAX_KNOWN)), Some(LEAST_WAIT));
        assert_eq!(
            unreadable.0.lock().len(),
            1,
            "the others were read elsewhere"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_releases_unreadable_tasks_and_archives_them_after_an_hour() {
        let (unreadable, broker) = (
            Unreadable::default(),
            MemoryBroker::with_clock(TestClock::default()),
        );
        let substitute = |n| {
            let payload = bytes::Bytes::from_static(b"?");
            let mut envelope =
                Envelope::new(task(n).id, "unreadable", CodecName::unreadable(), payload);
            envelope.queue = "q".into();
            NewTask::new(envelope, When::Now)
        };
        unreadable.wait(&task(1));
        advance(GRACE).await;
        let sent = broker.enqueue(vec![substitute(1), substitute(2)]).await;
        assert!(sent.expect("enqueued").iter().all(Result::is_ok));
        let request = LeaseRequest::new(vec![("q".into(), 2)], 2, GRACE, "w".into());
        let leased = all_of(broker.lease(&request).await).expect("leased");
        unreadable.release(&broker, &leased[0]).await;
        let tasks = [task(1), task(2)];
        let found = broker.tasks(&tasks).await.expect("tasks");
        let states: Vec<_> = found.iter().flatten().map(|task| task.state).collect();
        assert_eq!(states, [TaskState::Archived, TaskState::Scheduled]);
        let at = found[1].as_ref().and_then(|task| task.at).expect("a time");
        let wait = at.since(leased[0][1].now).as_millis();
        assert!((750..=1250).contains(&wait), "{wait} ms");
    }
}
