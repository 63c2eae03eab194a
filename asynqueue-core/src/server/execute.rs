//! The loop of a slot: running one task after another.

use std::{future::poll_fn, panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::time::Instant;

use super::{
    Counters, Shared,
    inbox::Job,
    running::{Running, Slot, SlotGuard},
    shutdown::within,
};
use crate::{
    ambient,
    broker::{Leased, Outcome},
    layer::{BoxProcess, TaskFuture, TaskOutput, TaskRequest, discard, panicked},
    process::{AttemptEnd, Bounds, Context, TaskError, TaskErrorKind},
    task::{FailureKind, Run, Timestamp},
    trace,
};

/// The upper bound of any timeout.
const FAR_AWAY: Duration = Duration::from_secs(365 * 24 * 3600);

/// A slot, and the bounds on the blocking code of the handlers that run in it.
pub(super) struct Place {
    slot: Arc<Slot>,
    bounds: Arc<Bounds>,
}

impl Shared {
    /// Opens slots up to the concurrency, as far as abandoned handlers leave room.
    pub(super) fn open_slots(self: &Arc<Self>) {
        let settings = &self.settings;
        let Some(runtime) = self.slots.runtime() else {
            return;
        };
        while self.slots.open() < settings.concurrency
            && self.slots.open() + self.slots.abandoned()
                < settings.concurrency.saturating_add(settings.max_abandoned)
        {
            self.slots.add(|slot| {
                runtime
                    .spawn(ambient::here(Arc::clone(self).run_slot(slot)))
                    .abort_handle()
            });
        }
    }

    async fn run_slot(self: Arc<Self>, slot: Arc<Slot>) {
        let place = self.place(slot);
        while let Some(job) = self.inbox.next().await {
            if !self.run_job(job, &place).await {
                // Abandoned while it ran: another slot has replaced this one.
                return;
            }
            // A handler that never waits must not keep its thread to itself.
            tokio::task::consume_budget().await;
        }
    }

    /// Prepares a slot for running tasks.
    pub(super) fn place(&self, slot: Arc<Slot>) -> Place {
        let guard = Arc::new(SlotGuard(Arc::clone(&slot)));
        let bounds = Bounds::new(Arc::clone(&self.blocking), guard);
        Place {
            slot,
            bounds: Arc::new(bounds),
        }
    }

    /// Runs a task and records its outcome, even after a panic. Returns whether the slot still counts.
    pub(super) async fn run_job(&self, job: Job, place: &Place) -> bool {
        // The attempt whose outcome is being recorded. If that panics, the task must not be lost.
        let mut concluding = None;
        let running = self.run_leased(job, place, &mut concluding);
        match AssertUnwindSafe(running).catch_unwind().await {
            Ok(still_counts) => still_counts,
            Err(payload) => {
                let error = panicked(payload);
                match place.slot.end().or(concluding) {
                    Some(running) => {
                        self.conclude_failed(&running, &error);
                        true
                    }
                    // Recorded already, or abandoned.
                    None => !place.slot.is_abandoned(),
                }
            }
        }
    }

    async fn run_leased(&self, job: Job, place: &Place, concluding: &mut Option<Running>) -> bool {
        if Instant::now() >= job.held_until {
            tracing::warn!(task = %job.leased.envelope.task_ref(),
                "the lease expired before the handler could start; the task is released");
            self.release(job.leased, job.queue);
            return true;
        }
        let Job {
            mut leased,
            queue,
            mut passes,
            ..
        } = job;
        if leased.envelope.place().is_some() {
            // It has left the line.
            Arc::make_mut(&mut leased.envelope).set_place(None);
        }
        // It may have waited here since it was leased.
        let now = self.broker.now().max(leased.now);
        let admitted = self.admit(&leased, now);
        if admitted.is_ok() {
            leased.envelope.record_start();
        }
        let mut context = self.context(&leased, now, place);
        context.set_lease(&leased);
        if let Ok(service) = &admitted {
            // Its wait for limits is over.
            passes.start();
            context.set_passed(service.gates());
        }
        let running = Running {
            token: leased.token,
            leased: Arc::clone(leased.original()),
            context: context.clone(),
            queue,
            cancelled: None,
        };
        let mut result = match admitted {
            Ok(service) => {
                place.slot.start(running);
                let started = self.statistics.start(&context);
                let request = TaskRequest {
                    context: context.clone(),
                };
                let result = watch_polls(service.run(request), &place.slot).await;
                started.end();
                context.end_blocking();
                let has_stopped = self.wait_for_blocking(&context, &result).await;
                *concluding = place.slot.end();
                if concluding.is_none() {
                    discard(result);
                    return false;
                }
                if !has_stopped {
                    self.slots.abandon(&place.slot);
                }
                if let Err(error) = &result
                    && context.releases(error)
                {
                    // Stopping on request is not a failure.
                    *concluding = None;
                    self.release_started(&context, leased, queue);
                    discard(result);
                    return !place.slot.is_abandoned();
                }
                result
            }
            Err(error) => {
                *concluding = Some(running);
                trace::refused(&context, &error);
                Err(error)
            }
        };
        drop(passes);
        self.conclude(leased, &context, &mut result);
        *concluding = None;
        self.inbox.finished(queue);
        if let Err(error) = result {
            discard(error);
        }
        !place.slot.is_abandoned()
    }

    /// Keeps the slot occupied while blocking code of an attempt runs. Returns whether the code has stopped. Code still
    /// running after its handler has returned has the cancel grace to stop.
    async fn wait_for_blocking(
        &self,
        context: &Context,
        result: &Result<TaskOutput, TaskError>,
    ) -> bool {
        if !context.is_blocking() {
            return true;
        }
        let timed_out = result.as_ref().is_err_and(|error| {
            let kind = error.failure_kind();
            kind == FailureKind::Timeout || kind == FailureKind::Deadline
        });
        if timed_out {
            // `watch` abandons it if it does not stop.
            context.blocking_ended().await;
            return true;
        }
        context.cancellation_token().cancel();
        within(self.settings.cancel_grace, context.blocking_ended()).await
    }

    /// Returns the handler of a task, or the reason not to run it.
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
        if envelope.is_expired(now) {
            let message = "expired: no worker started it in time".into();
            return refuse(FailureKind::Expired, message);
        }
        match self.registry.of(envelope) {
            Some(service) => Ok(service),
            None => {
                // It has been released for long enough.
                refuse(FailureKind::UnknownEvent, self.unhandled_for(envelope, now))
            }
        }
    }

    fn context(&self, leased: &Leased, now: Timestamp, place: &Place) -> Context {
        let envelope = &leased.envelope;
        let timeout = envelope.options.timeout;
        // Deadlines are in the broker's time.
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
            Arc::clone(&self.provided),
            Arc::downgrade(&place.bounds),
        )
    }

    /// Puts the outcome of an attempt into the outbox.
    fn conclude(
        &self,
        leased: Leased,
        context: &Context,
        result: &mut Result<TaskOutput, TaskError>,
    ) {
        let settlement = match result {
            Ok(output) => {
                let mut leased = leased;
                // A retained task shows which worker ran it, and when.
                if !leased.envelope.options.retention.is_zero() {
                    Arc::make_mut(&mut leased.envelope).set_completed(Run {
                        started: context.started(),
                        ended: self.broker.now(),
                        worker: self.worker.clone(),
                    });
                }
                leased.settle(Outcome::Complete {
                    result: output.result.take(),
                })
            }
            Err(error) => self.failed(context, leased.original(), leased.token, error),
        };
        // First, so that the counters include every task that the broker shows as finished.
        Counters::add(&self.counters.finished, 1);
        self.outbox.push(settlement);
    }

    /// Records a failure for an attempt that could not record its own outcome.
    pub(super) fn conclude_failed(&self, running: &Running, error: &TaskError) {
        Counters::add(&self.counters.finished, 1);
        self.outbox
            .push(self.failed(&running.context, &running.leased, running.token, error));
        self.inbox.finished(running.queue);
    }
}

/// Awaits an attempt, and lets `watch` see how long each poll occupies its thread.
async fn watch_polls(attempt: TaskFuture, slot: &Slot) -> Result<TaskOutput, TaskError> {
    let mut attempt = pin!(attempt);
    poll_fn(|cx| {
        slot.start_poll();
        let polled = attempt.as_mut().poll(cx);
        slot.end_poll();
        polled
    })
    .await
}
