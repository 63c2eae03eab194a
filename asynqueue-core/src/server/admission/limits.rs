//! Tasks over a limit of their process: one whose turn is near waits here, leased; the others go back until theirs.

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

/// A task on its way through the gates of its process.
struct AtGates {
    gates: Gates,
    /// How many it has passed.
    passed: usize,
    passes: Passes,
    /// Its place in the line, if it has one.
    place: Option<u64>,
}

/// How far a task has come.
enum Step {
    /// Through all gates.
    In(Passes),
    /// It may wait for its turn at the next.
    Wait(Turn),
    /// It comes back after this long.
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

    /// Passes the next gates, as far as they admit the task at once.
    fn go_on(&mut self, now: Timestamp) -> Step {
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

    /// Waits for its turn at a gate, and passes the next ones.
    async fn take(&mut self, turn: Turn, now: impl Fn() -> Timestamp) -> Step {
        match turn.await {
            Some(pass) => {
                self.passes.push(pass);
                self.passed += 1;
                self.go_on(now())
            }
            None => {
                let gate = self.gates.get(self.passed).zip(self.place);
                Step::Later(gate.map_or(Duration::ZERO, |(gate, place)| gate.come_back(place)))
            }
        }
    }
}

impl Shared {
    /// Admits a job through the gates of its process if there is room. Otherwise it waits at one, or goes back.
    pub(super) fn let_in_or_hold(
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
        match at.go_on(now) {
            Step::In(passes) => Some(job.let_in(passes)),
            Step::Later(wait) => {
                self.put_off(job.leased, &at, wait);
                None
            }
            Step::Wait(turn) => {
                let lease = job.leased.lease();
                // One that is closed has it given back.
                self.inbox.hold(job).map_or_else(Some, |()| {
                    let waiting = Arc::clone(self).wait_at_gate(lease, at, turn);
                    tokio::spawn(ambient::here(waiting));
                    None
                })
            }
        }
    }

    /// Waits with a job that the inbox holds until it is admitted, or is to come back later.
    async fn wait_at_gate(self: Arc<Self>, lease: Lease, mut at: AtGates, mut turn: Turn) {
        loop {
            match at.take(turn, || self.broker.now()).await {
                Step::In(passes) => return self.inbox.let_in(&lease, passes),
                Step::Wait(next) => turn = next,
                Step::Later(wait) => {
                    if let Some(job) = self.inbox.take_held(&lease) {
                        self.put_off(job.leased, &at, wait);
                    }
                    return;
                }
            }
        }
    }

    /// Waits in the foreground until a job is admitted, unless it is to come back later.
    #[cfg(feature = "testing")]
    pub(super) async fn wait_to_be_let_in(
        &self,
        job: Job,
        gates: &Gates,
        now: Timestamp,
    ) -> Option<Job> {
        if is_late(&job.leased.envelope, now) {
            return Some(job);
        }
        let mut at = AtGates::new(gates, &job.leased);
        let mut step = at.go_on(now);
        loop {
            match step {
                Step::In(passes) => return Some(job.let_in(passes)),
                Step::Wait(turn) => step = at.take(turn, || self.broker.now()).await,
                Step::Later(wait) => {
                    self.put_off(job.leased, &at, wait);
                    return None;
                }
            }
        }
    }

    /// Gives a task back for a while, with its place in the line.
    fn put_off(&self, mut leased: Leased, at: &AtGates, wait: Duration) {
        let left = time_left(&leased.envelope, self.broker.now());
        let delay = left.map_or(wait, |left| left.min(wait));
        if leased.envelope.place() != at.place {
            Arc::make_mut(&mut leased.envelope).set_place(at.place);
        }
        self.outbox.push(leased.settle(Outcome::Snooze { delay }));
    }
}
