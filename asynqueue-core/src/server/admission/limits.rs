//! Tasks over a limit of their handler. A task whose turn is near waits here under its lease; the others are snoozed
//! until their turn.

use std::{sync::Arc, time::Duration};

use super::{
    super::{Shared, inbox::Job},
    is_late, time_left,
};
use crate::{
    ambient,
    broker::{Lease, Leased, Outcome},
    layer::{Entry, Gates, Passes, Turn},
    task::Timestamp,
};

/// A task on its way through the gates of its handler.
struct AtGates {
    gates: Gates,
    /// How many gates it has passed.
    passed: usize,
    passes: Passes,
    /// Its place in the line, if it has one.
    place: Option<u64>,
}

/// The progress of a task.
enum Step {
    /// It has passed all gates.
    In(Passes),
    /// It waits here for its turn at the next gate.
    Wait(Turn),
    /// It has to come back after this long.
    Later(Duration),
}

impl AtGates {
    fn new(gates: &Gates, task: &Leased) -> Self {
        Self {
            gates: gates.clone(),
            passed: 0,
            passes: Passes::default(),
            place: task.envelope.place(),
        }
    }

    /// Passes gates as long as they admit the task immediately.
    fn advance(&mut self, now: Timestamp) -> Step {
        while let Some(gate) = self.gates.get(self.passed) {
            match gate.enter(self.place, now) {
                Entry::Now(pass) => {
                    self.passes.push(pass);
                    self.passed += 1;
                }
                Entry::Soon { place, turn } => {
                    self.place = Some(place);
                    return Step::Wait(turn);
                }
                Entry::Later { place, wait } => {
                    self.place = Some(place);
                    return Step::Later(wait);
                }
            }
        }
        Step::In(std::mem::take(&mut self.passes))
    }

    /// Waits for the turn at a gate, and passes the following gates.
    async fn take(&mut self, turn: Turn, now: impl Fn() -> Timestamp) -> Step {
        match turn.await {
            Some(pass) => {
                self.passes.push(pass);
                self.passed += 1;
                self.advance(now())
            }
            None => {
                let gate = self.gates.get(self.passed).zip(self.place);
                Step::Later(gate.map_or(Duration::ZERO, |(gate, place)| gate.send_back(place)))
            }
        }
    }
}

impl Shared {
    /// Admits a job through the gates of its handler if there is room. Otherwise it waits at one, or is snoozed.
    pub(super) fn admit_or_hold(
        self: &Arc<Self>,
        job: Job,
        gates: &Gates,
        now: Timestamp,
    ) -> Option<Job> {
        if is_late(&job.leased.envelope, now) {
            // It is archived in a slot, and takes no turn.
            return Some(job);
        }
        let mut at = AtGates::new(gates, &job.leased);
        match at.advance(now) {
            Step::In(passes) => Some(job.with_passes(passes)),
            Step::Later(wait) => {
                self.snooze(job.leased, &at, wait);
                None
            }
            Step::Wait(turn) => {
                let lease = job.leased.lease();
                // A closed inbox returns the job; the caller's push then returns it too, and it is released.
                self.inbox.hold(job).map_or_else(Some, |()| {
                    let waiting = Arc::clone(self).wait_at_gate(lease, at, turn);
                    tokio::spawn(ambient::here(waiting));
                    None
                })
            }
        }
    }

    /// Waits with a held job until it is admitted or has to come back later.
    async fn wait_at_gate(self: Arc<Self>, lease: Lease, mut at: AtGates, mut turn: Turn) {
        loop {
            match at.take(turn, || self.broker.now()).await {
                Step::In(passes) => return self.inbox.admit(&lease, passes),
                Step::Wait(next) => turn = next,
                Step::Later(wait) => {
                    if let Some(job) = self.inbox.take_held(&lease) {
                        self.snooze(job.leased, &at, wait);
                    }
                    return;
                }
            }
        }
    }

    /// Waits in the foreground until a job is admitted, unless it has to come back later.
    #[cfg(feature = "testing")]
    pub(super) async fn wait_for_admission(
        &self,
        job: Job,
        gates: &Gates,
        now: Timestamp,
    ) -> Option<Job> {
        if is_late(&job.leased.envelope, now) {
            return Some(job);
        }
        let mut at = AtGates::new(gates, &job.leased);
        let mut step = at.advance(now);
        loop {
            match step {
                Step::In(passes) => return Some(job.with_passes(passes)),
                Step::Wait(turn) => step = at.take(turn, || self.broker.now()).await,
                Step::Later(wait) => {
                    self.snooze(job.leased, &at, wait);
                    return None;
                }
            }
        }
    }

    /// Snoozes a task, with its place in the line.
    fn snooze(&self, mut leased: Leased, at: &AtGates, wait: Duration) {
        let now = self.broker.now();
        let left = time_left(&leased.envelope, now);
        let delay = left.map_or(wait, |left| left.min(wait));
        if let Some(gate) = at.gates.get(at.passed) {
            gate.note_away(&leased.envelope.queue, now + delay, now);
        }
        if leased.envelope.place() != at.place {
            Arc::make_mut(&mut leased.envelope).set_place(at.place);
        }
        self.outbox.push(leased.settle(Outcome::Snooze { delay }));
    }
}
