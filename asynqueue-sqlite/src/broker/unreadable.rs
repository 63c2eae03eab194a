//! Envelopes that this build cannot read. A later build may, so they are released unchanged, and archived only if no
//! process has read them for an hour.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use asynqueue_core::{
    broker::{BrokerError, Leased, Outcome, all_of},
    task::TaskRef,
};
use parking_lot::Mutex;

use super::SqliteBroker;

/// How long this process releases an envelope before it archives it.
const GRACE: Duration = Duration::from_secs(3600);

/// An envelope returns after as long as it has been known, so the wait doubles from the least to the most.
const LEAST_WAIT: Duration = Duration::from_secs(1);
const MOST_WAIT: Duration = Duration::from_secs(60);

/// An envelope that has not returned for this long was read by another process.
const READ_ELSEWHERE: Duration = Duration::from_secs(180);

/// The limit of remembered envelopes. Others are released too, and archived once there is room for them.
const MAX_KNOWN: usize = 10_000;

/// Since when this process has known each unreadable envelope. The time is not stored: nothing can be added to an
/// envelope that cannot be read, and this build must not replace it.
#[derive(Default)]
pub(super) struct Unreadable(Mutex<HashMap<TaskRef, Known>>);

struct Known {
    first: Instant,
    last: Instant,
}

impl Unreadable {
    /// How long to release the task for. `None` if its time is up.
    fn wait(&self, task: &TaskRef, grace: Duration) -> Option<Duration> {
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
        if age >= grace {
            known.remove(task);
            return None;
        }
        Some(age.clamp(LEAST_WAIT, MOST_WAIT))
    }
}

/// A number from 0 to 1 that differs from task to task.
fn spread(task: &TaskRef) -> f64 {
    let mut hasher = DefaultHasher::new();
    task.hash(&mut hasher);
    hasher.finish() as f64 / u64::MAX as f64
}

impl SqliteBroker {
    /// Releases unreadable tasks, or archives them after an hour.
    pub(super) async fn release_unreadable(&self, leased: Vec<Leased>) -> Result<(), BrokerError> {
        if leased.is_empty() {
            return Ok(());
        }
        let settlements: Vec<_> = leased.into_iter().map(|leased| {
            let task = leased.envelope.task_ref();
            match self.0.unreadable.wait(&task, GRACE) {
                Some(wait) => {
                    tracing::warn!(%task, "cannot read the task's envelope; releasing it for a later version of the program");
                    // Spread, so that a complete backlog does not return at the same time.
                    let delay = wait.mul_f64(0.75 + spread(&task) / 2.0);
                    leased.settle(Outcome::Snooze { delay })
                }
                None => {
                    tracing::error!(%task, "no server could read the task's envelope for an hour; archiving the task");
                    leased.settle(Outcome::Archive)
                }
            }
        }).collect();
        all_of(self.settle_all(&settlements).await).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use asynqueue_core::task::TaskId;

    use super::*;

    fn task(n: usize) -> TaskRef {
        TaskRef::new("q", TaskId::new(n.to_string()).expect("an id"))
    }

    #[test]
    fn an_envelope_is_released_until_its_time_is_up() {
        let unreadable = Unreadable::default();
        assert_eq!(unreadable.wait(&task(1), GRACE), Some(LEAST_WAIT));
        assert_eq!(unreadable.wait(&task(1), GRACE), Some(LEAST_WAIT));
        assert_eq!(unreadable.wait(&task(1), Duration::ZERO), None);
    }

    #[test]
    fn memory_is_bounded_and_nothing_is_archived_for_lack_of_it() {
        let unreadable = Unreadable::default();
        (0..MAX_KNOWN).for_each(|n| {
            unreadable.wait(&task(n), GRACE);
        });
        assert_eq!(unreadable.wait(&task(MAX_KNOWN), GRACE), Some(MOST_WAIT));
        assert_eq!(unreadable.0.lock().len(), MAX_KNOWN);
    }
}
