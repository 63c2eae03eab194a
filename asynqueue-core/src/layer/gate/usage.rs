//! How much of a limit is used, and which tasks wait for it: for reports to people.

use std::{collections::BTreeMap, time::Duration};

use super::{Gate, Limit};
use crate::{
    sync::Mutex,
    task::{Name, Timestamp},
};

/// How many queues are known to have tasks that wait.
const MAX_QUEUES: usize = 100;

/// The queues whose tasks a gate has sent away, and when the last task of each comes back.
#[derive(Debug, Default)]
pub(super) struct Away(Mutex<BTreeMap<Name, Timestamp>>);

impl Away {
    fn note(&self, queue: &Name, back: Timestamp, now: Timestamp) {
        let mut queues = self.0.lock();
        if let Some(last) = queues.get_mut(queue) {
            *last = back.max(*last);
            return;
        }
        if queues.len() >= MAX_QUEUES {
            queues.retain(|_, last| *last > now);
        }
        if queues.len() < MAX_QUEUES {
            queues.insert(queue.clone(), back);
        }
    }

    fn queues(&self, now: Timestamp) -> Vec<Name> {
        let queues = self.0.lock();
        let away = queues.iter().filter(|(_, last)| **last > now);
        away.map(|(queue, _)| queue.clone()).collect()
    }
}

/// The use of a limit at one moment.
#[derive(Debug)]
pub(crate) struct Usage {
    pub(crate) max: u64,
    /// The period of a rate limit.
    pub(crate) period: Option<Duration>,
    pub(crate) used: u64,
    pub(crate) waiting: u64,
    pub(crate) queues: Vec<Name>,
    /// The time until the next attempt may start, if it is known.
    pub(crate) next: Option<Duration>,
}

impl Gate {
    /// Records that a task of a queue stays away until `back`.
    pub(crate) fn note_away(&self, queue: &Name, back: Timestamp, now: Timestamp) {
        self.away.note(queue, back, now);
    }

    pub(crate) fn usage(&self, now: Timestamp) -> Usage {
        let queues = self.away.queues(now);
        let waiting = match queues.is_empty() {
            true => 0,
            false => self.line.lock().length(),
        };
        let (max, period, used, next) = match &self.limit {
            Limit::AtOnce { permits, max, .. } => {
                let (max, free) = (*max as u64, permits.available_permits() as u64);
                let next = (free > 0).then_some(Duration::ZERO);
                (max, None, max.saturating_sub(free), next)
            }
            Limit::PerTime(turns) => {
                let (max, period) = turns.rate();
                (max, Some(period), turns.used(), Some(turns.wait()))
            }
        };
        Usage {
            max,
            period,
            used,
            waiting,
            queues,
            next,
        }
    }
}
