//! How many tasks this server gave back because it has no process for their event, and that are not due again yet.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::{
    broker::UnhandledTasks,
    task::{Name, Timestamp},
};

/// The most pairs of queue and event to keep apart. Tasks of further events go back all the same, and are not counted.
const MAX_EVENTS: usize = 100;

/// Seconds that a task may be away: more than the longest wait.
const SECONDS: usize = 80;

/// What this server gave back, by queue and event. Its size does not depend on the number of tasks.
#[derive(Debug, Default)]
pub(in crate::server) struct Unhandled {
    events: Mutex<HashMap<(Name, Name), Returns>>,
}

/// How many tasks are due again in each of the next seconds.
#[derive(Debug)]
struct Returns {
    /// The second, and how many.
    due: Vec<(u64, u32)>,
}

impl Unhandled {
    /// Counts a task that is due again at `due`. Returns whether it is the first of its event.
    pub(super) fn note(&self, queue: &Name, event: &Name, now: Timestamp, due: Timestamp) -> bool {
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

    /// Of which events tasks are away, by queue and event.
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

    /// How many are due after this second. Some of those due in it have come back, and may have gone again.
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
    fn only_the_first_task_of_an_event_is_news() {
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
        assert_eq!(tasks(&unhandled, 80), [1], "the place of second 2 is anew");
    }

    #[test]
    fn no_number_of_events_takes_more_than_a_hundred_places() {
        let (unhandled, queue) = (Unhandled::default(), Name::from("q"));
        let note = |n: u64, now| {
            let event = Name::from(format!("e{n}"));
            unhandled.note(&queue, &event, at(now), at(now + 1))
        };
        assert!((0..100).all(|n| note(n, 0)));
        assert!(!note(100, 0));
        assert_eq!(tasks(&unhandled, 0).len(), 100);
        assert!(note(101, 10), "those that are back make room");
        assert_eq!(tasks(&unhandled, 10), [1]);
    }
}
