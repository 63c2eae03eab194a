//! Tasks whose event has no handler here. They are released, because another server may have one.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{super::Shared, is_late, time_left};
use crate::{
    ambient,
    broker::{Leased, Outcome, Settlement, UnhandledTasks},
    metrics,
    sync::Mutex,
    task::{Envelope, Name, Timestamp},
};

/// The bounds of the wait before such a task comes back. It waits as long as it has been unhandled, so the wait doubles
/// between the bounds.
const LEAST_WAIT: Duration = Duration::from_secs(1);
const MOST_WAIT: Duration = Duration::from_secs(60);

/// The maximum number of pairs of queue and event to count. Tasks of further pairs are released too, but not counted.
const MAX_EVENTS: usize = 100;

/// The seconds covered: more than the longest wait.
const SECONDS: usize = 80;

impl Shared {
    /// Releases a task whose event has no handler here. Returns it as `Err` if its time is up and it has to be
    /// archived.
    pub(super) fn release_unhandled(
        &self,
        mut leased: Leased,
        now: Timestamp,
    ) -> Result<Settlement, Leased> {
        let now = now.max(leased.now);
        if is_late(&leased.envelope, now) {
            return Err(leased);
        }
        let since = unhandled_since(&leased.envelope).unwrap_or(now);
        let unhandled = now.since(since);
        if unhandled >= self.settings.unknown_event_grace {
            return Err(leased);
        }
        // Jitter, so that a large backlog does not come back all in one moment.
        let wait = unhandled.clamp(LEAST_WAIT, MOST_WAIT);
        let delay = wait.mul_f64(0.75 + ambient::random::<f64>() / 2.0);
        let delay = time_left(&leased.envelope, now).map_or(delay, |left| left.min(delay));
        let task = Arc::make_mut(&mut leased.envelope);
        task.set_unhandled_since(Some(since));
        let (event, queue) = (&task.event, &task.queue);
        metrics::unhandled(queue);
        if self.unhandled.note(queue, event, now, now + delay) {
            tracing::warn!(%event, %queue, grace = ?self.settings.unknown_event_grace,
                "this server has no handler for the event; its tasks are released for other servers, and archived when the grace \
                 period ends: register a handler, or give the event its own queue");
        }
        Ok(leased.settle(Outcome::Snooze { delay }))
    }

    /// The reason to archive a task whose event has no handler.
    pub(in crate::server) fn unhandled_for(&self, task: &Envelope, now: Timestamp) -> String {
        let event = &task.event;
        match unhandled_since(task) {
            Some(since) => {
                let unhandled = Duration::from_secs(now.since(since).as_secs());
                format!(
                    "no handler is registered for event `{event}`, and no other server has taken the task in {unhandled:?}"
                )
            }
            None => format!("no handler is registered for event `{event}`"),
        }
    }
}

/// Since when a task is unhandled. A task that was archived and is run again gets the full grace period.
fn unhandled_since(task: &Envelope) -> Option<Timestamp> {
    let archived = task.last_failure().map(|failure| failure.at);
    let since = task.unhandled_since()?;
    archived
        .is_none_or(|archived| archived <= since)
        .then_some(since)
}

/// The tasks that this server released and that are not due again yet, by queue and event. Its size does not depend on
/// their number.
#[derive(Debug, Default)]
pub(in crate::server) struct Unhandled {
    events: Mutex<HashMap<(Name, Name), Returns>>,
}

/// How many tasks are due again in each of the next seconds.
#[derive(Debug)]
struct Returns {
    /// The second, and the number of tasks.
    due: Vec<(u64, u32)>,
}

impl Unhandled {
    /// Counts a task that is due again at `due`. Returns whether it is the first of its event.
    fn note(&self, queue: &Name, event: &Name, now: Timestamp, due: Timestamp) -> bool {
        let mut events = self.events.lock();
        let key = (queue.clone(), event.clone());
        if let Some(returns) = events.get_mut(&key) {
            returns.add(second(due));
            return false;
        }
        if events.len() >= MAX_EVENTS {
            events.retain(|_, returns| returns.after(second(now)) > 0);
        }
        if events.len() >= MAX_EVENTS {
            return false;
        }
        let mut returns = Returns {
            due: vec![(0, 0); SECONDS],
        };
        returns.add(second(due));
        events.insert(key, returns);
        true
    }

    /// The events whose tasks are away, by queue and event.
    pub(in crate::server) fn away(&self, now: Timestamp) -> Vec<UnhandledTasks> {
        let events = self.events.lock();
        let away = events
            .iter()
            .map(|((queue, event), returns)| UnhandledTasks {
                queue: queue.clone(),
                event: event.clone(),
                tasks: returns.after(second(now)),
            });
        let mut away: Vec<_> = away.filter(|unhandled| unhandled.tasks > 0).collect();
        away.sort_unstable_by(|a, b| (&a.queue, &a.event).cmp(&(&b.queue, &b.event)));
        away
    }
}

impl Returns {
    fn add(&mut self, second: u64) {
        let place = &mut self.due[second as usize % SECONDS];
        if place.0 != second {
            *place = (second, 0);
        }
        place.1 = place.1.saturating_add(1);
    }

    /// How many are due after this second. Tasks due in it may have come back and been released again.
    fn after(&self, now: u64) -> u64 {
        let due = self.due.iter().filter(|(second, _)| *second > now);
        due.map(|(_, tasks)| u64::from(*tasks)).sum()
    }
}

fn second(time: Timestamp) -> u64 {
    time.as_millis() / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn tasks(unhandled: &Unhandled, now: u64) -> Vec<u64> {
        let away = unhandled.away(at(now));
        away.iter().map(|unhandled| unhandled.tasks).collect()
    }

    #[test]
    fn only_the_first_task_of_an_event_is_reported() {
        let (unhandled, queue) = (Unhandled::default(), Name::from("q"));
        assert!(unhandled.note(&queue, &"a".into(), at(0), at(1)));
        assert!(!unhandled.note(&queue, &"a".into(), at(1), at(2)));
        assert!(unhandled.note(&queue, &"b".into(), at(1), at(2)));
    }

    #[test]
    fn tasks_count_until_they_are_due_again() {
        let (unhandled, queue) = (Unhandled::default(), Name::from("q"));
        for due in [1, 2, 2, 75] {
            unhandled.note(&queue, &"a".into(), at(0), at(due));
        }
        assert_eq!(tasks(&unhandled, 0), [4]);
        assert_eq!(tasks(&unhandled, 1), [3]);
        assert_eq!(tasks(&unhandled, 2), [1]);
        assert_eq!(tasks(&unhandled, 75), [0; 0]);
        unhandled.note(&queue, &"a".into(), at(80), at(82));
        assert_eq!(
            tasks(&unhandled, 80),
            [1],
            "the place of second 2 is reused"
        );
    }

    #[test]
    fn at_most_a_hundred_events_are_counted() {
        let (unhandled, queue) = (Unhandled::default(), Name::from("q"));
        let note = |n: u64, now| {
            let event = Name::from(format!("e{n}"));
            unhandled.note(&queue, &event, at(now), at(now + 1))
        };
        assert!((0..100).all(|n| note(n, 0)));
        assert!(!note(100, 0));
        assert_eq!(tasks(&unhandled, 0).len(), 100);
        assert!(note(101, 10), "tasks that are back make room");
        assert_eq!(tasks(&unhandled, 10), [1]);
    }
}
