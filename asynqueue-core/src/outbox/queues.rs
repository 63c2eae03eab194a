//! Which queues a relay may send to: each of them rests by itself after an error, and holds up no other.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::send::{Relayed, Sent};
use crate::{server::Retrying, task::Name};

/// What the relay does, for logs and the metric of failed calls.
const DOING: &str = "relay the outbox";

/// The longest rest between entries that fail one after the other.
const LONGEST: Duration = Duration::from_secs(30);

/// The queues that are being sent to, or that rest.
#[derive(Debug, Default)]
pub(super) struct Queues(HashMap<Name, State>);

#[derive(Debug)]
struct State {
    /// How many entries were sent whose outcome is not recorded yet.
    in_flight: usize,
    rests_until: Option<Instant>,
    retrying: Retrying,
    /// How many entries have failed since the last one that did not.
    failed: u32,
    /// Why the queue cannot be sent to. `None` once it can.
    error: Option<String>,
}

impl Queues {
    /// The queues that nothing is sent to for now.
    pub(super) fn closed(&self) -> Vec<Name> {
        let now = Instant::now();
        let closed = |state: &State| state.in_flight > 0 || state.rests_until > Some(now);
        let closed = self.0.iter().filter(|(_, state)| closed(state));
        closed.map(|(queue, _)| queue.clone()).collect()
    }

    /// When the next queue has rested.
    pub(super) fn next_rested(&self) -> Option<Instant> {
        let now = Instant::now();
        let resting = self.0.values().filter(|state| state.in_flight == 0);
        let until = resting.filter_map(|state| state.rests_until);
        until.filter(|until| *until > now).min()
    }

    /// How many entries of all queues are being sent.
    pub(super) fn in_flight(&self) -> usize {
        self.0.values().map(|state| state.in_flight).sum()
    }

    /// Entries of this queue are sent.
    pub(super) fn begin(&mut self, queue: &Name, entries: usize) {
        let state = self.0.entry(queue.clone()).or_insert_with(|| State {
            in_flight: 0,
            rests_until: None,
            retrying: Retrying::new(DOING),
            failed: 0,
            error: None,
        });
        state.in_flight = entries;
        state.rests_until = None;
    }

    /// The outcome of what was sent is recorded.
    pub(super) fn end(&mut self, sent: &Sent) {
        let Some(state) = self.0.get_mut(&sent.queue) else {
            return;
        };
        state.in_flight = 0;
        let is_failed = |result: &Relayed| matches!(result, Relayed::Failed(_));
        match &sent.error {
            Some(error) if error.is_temporary() => {
                let wait = state.retrying.failed_for(&sent.queue, error);
                state.rests_until = Some(Instant::now() + wait);
                state.error = Some(error.to_string());
            }
            // The entry has failed. If this is not the entry's fault, each entry would fail: slow down.
            Some(_) => {
                let has_worked = sent.results.iter().any(|sent| !is_failed(&sent.result));
                state.failed = if has_worked { 1 } else { state.failed + 1 };
                state.rests_until = rest_after(state.failed).map(|rest| Instant::now() + rest);
                state.error = None;
            }
            None => {
                state.retrying.worked_for(&sent.queue);
                self.0.remove(&sent.queue);
            }
        }
    }

    /// The error of a queue that cannot be sent to, for the report.
    pub(super) fn error(&self) -> Option<String> {
        let failing = self.0.iter().filter_map(|(queue, state)| {
            let error = state.error.as_ref()?;
            Some(format!("queue `{queue}`: {error}"))
        });
        failing.min()
    }
}

/// How long a queue rests after this number of failed entries in a row: not after the first.
fn rest_after(failed: u32) -> Option<Duration> {
    let doublings = failed.checked_sub(2)?;
    let rest = Duration::from_millis(100).saturating_mul(2_u32.saturating_pow(doublings));
    Some(rest.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failed_entry_holds_up_nothing_and_a_row_of_them_slows_down() {
        let millis = |failed| rest_after(failed).map(|rest| rest.as_millis());
        assert_eq!(millis(1), None);
        assert_eq!(millis(2), Some(100));
        assert_eq!(millis(3), Some(200));
        assert_eq!(millis(100), Some(30_000));
    }
}
