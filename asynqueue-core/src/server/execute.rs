//! Running one task after the other.

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

/// Nobody waits longer for a handler, however long its timeout.
const FAR_AWAY: Duration = Duration::from_secs(365 * 24 * 3600);

/// A slot, and what bounds the blocking code of the handlers that run in it.
pub(super) struct Place {
    slot: Arc<Slot>,
    bounds: Arc<Bounds>,
}

impl Shared {
    /// Opens slots up to the concurrency, but not more than abandoned handlers leave room for.
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
                // Given up meanwhile: another slot is in this one's place.
                return;
            }
            // A handler that is ready at once must not keep its thread to itself.
            tokio::task::consume_budget().await;
        }
    }

    /// A slot to run tasks in.
    pub(super) fn place(&self, slot: Arc<Slot>) -> Place {
        let guard = Arc::new(SlotGuard(Arc::clone(&slot)));
        let bounds = Bounds::new(Arc::clone(&self.blocking), guard);
        Place {
            slot,
            bounds: Arc::new(bounds),
        }
    }

    /// Runs a task and records its outcome, whatever panics. Returns whether the slot still counts.
    pub(super) async fn run_job(&self, job: Job, place: &Place) -> bool {
        // What is being concluded: should that panic, its task must not be lost.
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
                    // Recorded, or given up.
                    None => !place.slot.is_given_up(),
                }
            }
        }
    }

    async fn run_leased(&self, job: Job, place: &Place, concluding: &mut Option<Running>) -> bool {
        if Instant::now() >= job.held_until {
            tracing::warn!(task = %job.leased.envelope.task_ref(),
                "the lease ended before the handler could start; the task is released");
            self.give_back(job.leased, job.queue);
            return true;
        }
        let Job {
            mut leased,
            queue,
            mut passes,
            ..
        } = job;
        if leased.envelope.place().is_some() {
            // It is in no line any more.
            Arc::make_mut(&mut leased.envelope).set_place(None);
        }
        // It may have waited here since it was leased.
        let now = self.broker.now().max(leased.now);
        let admitted = self.admit(&leased, now);
        if admitted.is_ok() {
            leased.envelope.record_start();
        }
        let mut context = self.context(&leased, now, place);
        if let Ok(service) = &admitted {
            // The time that it waited for a limit is over.
            passes.begin();
            context.let_in(service.gates());
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
                place.slot.begin(running);
                let request = TaskRequest {
                    context: context.clone(),
                };
                let result = attend(service.run(request), &place.slot).await;
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
                    && context.gives_back(error)
                {
                    // Stopping when asked to is not a failure.
                    *concluding = None;
                    self.give_back_begun(&context, leased, queue);
                    discard(result);
                    return !place.slot.is_given_up();
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
        !place.slot.is_given_up()
    }

    /// Keeps the slot taken while blocking code of an attempt runs. Returns whether it has stopped: what a handler has left
    /// behind when it returned has the grace to.
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
            // The watch gives up on it.
            context.blocking_ended().await;
            return true;
        }
        context.cancellation_token().cancel();
        within(self.settings.cancel_grace, context.blocking_ended()).await
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
        if envelope.is_expired(now) {
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

    fn context(&self, leased: &Leased, now: Timestamp, place: &Place) -> Context {
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
            Arc::clone(&self.provided),
            Arc::downgrade(&place.bounds),
        )
    }

    /// Hands the outcome of an attempt to the outbox.
    fn conclude(
        &self,
        leased: Leased,
        context: &Context,
        result: &mut Result<TaskOutput, TaskError>,
    ) {
        let settlement = match result {
            Ok(output) => {
                let mut leased = leased;
                // A task that is kept shows which worker ran it, and when.
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
        // First, so that the figures include what the broker shows as finished.
        Counters::add(&self.counters.finished, 1);
        self.outbox.push(settlement);
    }

    /// Records the failure of an attempt that did not get to record its own outcome.
    pub(super) fn conclude_failed(&self, running: &Running, error: &TaskError) {
        Counters::add(&self.counters.finished, 1);
        self.outbox
            .push(self.failed(&running.context, &running.leased, running.token, error));
        self.inbox.finished(running.queue);
    }
}

/// Awaits an attempt, and lets the watch see for how long each poll takes its thread.
async fn attend(attempt: TaskFuture, slot: &Slot) -> Result<TaskOutput, TaskError> {
    let mut attempt = pin!(attempt);
    poll_fn(|cx| {
        slot.begin_poll();
        let polled = attempt.as_mut().poll(cx);
        slot.end_poll();
        polled
    })
    .await
}
