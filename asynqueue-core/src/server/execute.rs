//! Running one task after the other.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Counters, Shared,
    inbox::Job,
    running::{Running, Slot, SlotGuard},
};
use crate::{
    broker::{Leased, Outcome},
    layer::{BoxProcess, TaskOutput, TaskRequest},
    process::{AttemptEnd, Context, TaskError, TaskErrorKind},
    task::{FailureKind, Run, Timestamp},
    trace,
};

/// Nobody waits longer for a handler, however long its timeout.
const FAR_AWAY: Duration = Duration::from_secs(365 * 24 * 3600);

impl Shared {
    /// Opens slots up to the concurrency, but not more than abandoned handlers leave room for.
    pub(super) fn open_slots(self: &Arc<Self>) {
        let settings = &self.settings;
        while self.slots.open() < settings.concurrency
            && self.slots.open() + self.slots.abandoned()
                < settings.concurrency.saturating_add(settings.max_abandoned)
        {
            self.slots
                .add(|slot| tokio::spawn(Arc::clone(self).run_slot(slot)).abort_handle());
        }
    }

    async fn run_slot(self: Arc<Self>, slot: Arc<Slot>) {
        let guard = SlotGuard(slot);
        while let Some(job) = self.inbox.next().await {
            if !self.run_job(job, &guard.0).await {
                // Given up meanwhile: another slot is in this one's place.
                return;
            }
            // A handler that is ready at once must not keep its thread to itself.
            tokio::task::consume_budget().await;
        }
    }

    /// Runs a task and says what came of it. Returns whether the slot still counts.
    pub(super) async fn run_job(&self, job: Job, slot: &Slot) -> bool {
        let Job {
            mut leased,
            queue,
            mut passes,
        } = job;
        if leased.envelope.place().is_some() {
            // It is in no line any more.
            Arc::make_mut(&mut leased.envelope).set_place(None);
        }
        // It may have waited here since it was leased.
        let now = self.broker.now().max(leased.now);
        let mut context = self.context(&leased, now);
        let result = match self.admit(&leased, now) {
            Ok(service) => {
                // The time that it waited for a limit is over.
                passes.begin();
                context.let_in(service.gates());
                let running = Running {
                    token: leased.token,
                    context: context.clone(),
                    queue,
                    cancelled: None,
                };
                slot.begin(running);
                let result = service
                    .run(TaskRequest {
                        context: context.clone(),
                    })
                    .await;
                if slot.end().is_none() {
                    return false;
                }
                if result
                    .as_ref()
                    .is_err_and(|error| context.gives_back(error))
                {
                    // Stopping when told to is no failure.
                    self.give_back(Job {
                        leased,
                        queue,
                        passes,
                    });
                    return true;
                }
                result
            }
            Err(error) => {
                trace::refused(&context, &error);
                Err(error)
            }
        };
        drop(passes);
        self.conclude(leased, &context, result);
        self.inbox.finished(queue);
        true
    }

    /// The process for a task, unless it must not run.
    fn admit(&self, leased: &Leased, now: Timestamp) -> Result<&BoxProcess, TaskError> {
        let envelope = &leased.envelope;
        let refuse =
            |kind, message: String| Err(TaskError::of(TaskErrorKind::SkipRetry, kind, message));
        if envelope.deadline.is_some_and(|deadline| deadline <= now) {
            return refuse(
                FailureKind::Deadline,
                "deadline exceeded before start".into(),
            );
        }
        if envelope.expires_at().is_some_and(|time| time <= now) {
            let message = "expired: no worker had begun it in time".into();
            return refuse(FailureKind::Expired, message);
        }
        match self.registry.of(envelope) {
            Some(service) => Ok(service),
            None => {
                // Not given back any more.
                refuse(FailureKind::UnknownEvent, self.unhandled_for(envelope, now))
            }
        }
    }

    fn context(&self, leased: &Leased, now: Timestamp) -> Context {
        let envelope = &leased.envelope;
        let timeout = envelope.options.timeout;
        // By the broker's clock, which the deadline is in.
        let left = envelope
            .deadline
            .map_or(FAR_AWAY, |deadline| deadline.since(now));
        let end = AttemptEnd {
            at: Instant::now() + timeout.min(left).min(FAR_AWAY),
            is_deadline: left < timeout,
        };
        Context::new(
            Arc::clone(envelope),
            self.worker.clone(),
            now,
            leased.pending_since,
            end,
            self.state.clone(),
        )
    }

    /// Hands the outcome of an attempt to the outbox.
    fn conclude(&self, leased: Leased, context: &Context, result: Result<TaskOutput, TaskError>) {
        let settlement = match result {
            Ok(output) => {
                let mut leased = leased;
                // Whoever looks at a task that is kept wants to know who ran it.
                if !leased.envelope.options.retention.is_zero() {
                    Arc::make_mut(&mut leased.envelope).set_completed(Run {
                        started: context.started(),
                        ended: self.broker.now(),
                        worker: self.worker.clone(),
                    });
                }
                leased.settle(Outcome::Complete {
                    result: output.result,
                })
            }
            Err(error) => self.failed(context, leased.token, &error),
        };
        self.outbox.push(settlement);
        Counters::add(&self.counters.finished, 1);
    }
}
