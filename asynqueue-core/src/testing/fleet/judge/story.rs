//! The history of one task since it was accepted.

use std::time::Duration;

use crate::{broker::LeaseToken, task::Timestamp};

#[derive(Debug)]
pub(super) struct Story {
    pub(super) state: State,
    /// Since when it is in this state.
    pub(super) since: Duration,
    pub(super) accepted: Duration,
    /// The range of attempts that the next lease may be for.
    pub(super) next_attempt: (u32, u32),
    /// The last attempt that counted or started.
    pub(super) last_attempt: u32,
    /// Whether that one was released unchanged, so that it starts again.
    pub(super) is_released: bool,
    /// Whether it waits for its group.
    pub(super) is_member: bool,
    /// Whether an operator has changed it.
    pub(super) is_edited: bool,
    /// Whether its cancellation was requested.
    pub(super) is_cancelled: bool,
    pub(super) runs: Vec<Run>,
}

#[derive(Debug)]
pub(super) enum State {
    /// Waiting to run, not before this time.
    Waiting(Timestamp),
    Active(Held),
    Completed,
    Archived,
    Gone,
}

/// A lease.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) token: LeaseToken,
    pub(super) node: Option<usize>,
    pub(super) attempt: u32,
    pub(super) since: Duration,
}

/// An attempt of a handler.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) node: Option<usize>,
    pub(super) attempt: u32,
    pub(super) has_ended: bool,
}

impl Story {
    pub(super) fn new(at: Duration, due: Timestamp, attempts: u32, is_member: bool) -> Self {
        Self {
            state: State::Waiting(due),
            since: at,
            accepted: at,
            next_attempt: next_to(attempts),
            last_attempt: attempts,
            is_released: false,
            is_member,
            is_edited: false,
            is_cancelled: false,
            runs: Vec::new(),
        }
    }

    pub(super) fn wait(&mut self, at: Duration, due: Timestamp) {
        (self.state, self.since) = (State::Waiting(due), at);
    }

    /// Records the number of attempts that an operator has set.
    pub(super) fn set_attempts(&mut self, attempts: u32) {
        (self.last_attempt, self.next_attempt) = (attempts, next_to(attempts));
    }

    /// Whether the store may no longer have a task with this id.
    pub(super) fn may_be_gone(&self) -> bool {
        !matches!(self.state, State::Waiting(_) | State::Active(_))
    }
}

fn next_to(attempts: u32) -> (u32, u32) {
    let next = attempts.saturating_add(1);
    (next, next)
}
