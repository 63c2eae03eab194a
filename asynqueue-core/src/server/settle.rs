//! Recording outcomes, in batches that collect while the previous call is under way.

use std::{borrow::Cow, sync::Arc};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};

use super::{
    Counters, Shared, is_closed,
    outbox::{Failed, Part},
    outcome::guarded,
};
use crate::{
    broker::{BrokerError, Each, Outcome, Settled, Settlement, kit::promised},
    metrics,
    task::{Envelope, Failure, FailureKind, Name},
};

/// The response to a call that records a part.
struct Response {
    /// The queue, if the part was sent in its own lane.
    of: Option<Name>,
    part: Arc<Part>,
    results: Result<Each<Settled>, BrokerError>,
}

impl Shared {
    /// Records outcomes until the server has stopped and none is left, or the broker is closed.
    pub(super) async fn settle_outcomes(self: Arc<Self>) {
        let mut calls: FuturesUnordered<BoxFuture<'static, Response>> = FuturesUnordered::new();
        let partitioned = self.broker.capabilities().is_partitioned;
        loop {
            for (of, part) in self.outbox.start_calls(partitioned) {
                calls.push(Arc::clone(&self).record(of, part).boxed());
            }
            let has_stopped = self.stopped.is_cancelled();
            if has_stopped && self.outbox.is_empty() {
                return;
            }
            let next = self.outbox.next();
            let again = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.outbox.filled() => {
                    // Let the tasks that finish in the same scheduler tick join the batch.
                    tokio::task::yield_now().await;
                }
                Some(response) = calls.next() => {
                    if !self.act_on(response) {
                        return;
                    }
                }
                () = again => {}
                () = self.stopped.cancelled(), if !has_stopped => {}
            }
        }
    }

    async fn record(self: Arc<Self>, of: Option<Name>, part: Arc<Part>) -> Response {
        let results = match &part.refused {
            None => self.broker.settle(&part.settlements).await,
            Some(error) => {
                let archived = self.archived_in_place(&part.settlements[0], error);
                self.broker.settle(&[archived]).await
            }
        };
        Response { of, part, results }
    }

    /// Acts on a response. Returns whether to continue.
    fn act_on(&self, response: Response) -> bool {
        let Response { of, part, results } = response;
        let results = match results {
            Ok(results) => results,
            Err(error) if is_closed(&error) => {
                // The leases expire, and the tasks run again on another server.
                tracing::error!(%error, tasks = part.settlements.len(), "could not record outcomes: the broker is closed; the tasks run again");
                return false;
            }
            Err(error) if of.is_none() && error.is_temporary() => {
                self.outbox.all_failed(&part, &error);
                return true;
            }
            Err(error) => vec![Err(error); part.settlements.len()],
        };
        if results.len() == part.settlements.len() && results.iter().all(Result::is_ok) {
            let settled = results.into_iter().flatten().collect();
            self.note_settled(&part.settlements, settled);
            self.outbox.call_ended(of.as_ref(), &part, Vec::new());
            return true;
        }
        let failed = self.note_partly_settled(&part, results);
        self.outbox.call_ended(of.as_ref(), &part, failed);
        true
    }

    /// Reports what was recorded of a part, once. Returns the rest, by queue and kind of error.
    fn note_partly_settled(&self, part: &Part, results: Each<Settled>) -> Vec<Failed> {
        let short = || BrokerError::protocol("expected one result per outcome");
        let mut results = results.into_iter();
        let (mut recorded, mut settled) = (Vec::new(), Vec::new());
        let mut failed: Vec<Failed> = Vec::new();
        for settlement in &part.settlements {
            let error = match results.next().unwrap_or_else(|| Err(short())) {
                Ok(result) => {
                    recorded.push(settlement.clone());
                    settled.push(result);
                    continue;
                }
                Err(error) => error,
            };
            if part.refused.is_some() && !error.is_temporary() {
                tracing::error!(task = %settlement.envelope.task_ref(), %error,
                    "this task cannot be archived either; it runs again after its lease has expired");
                continue;
            }
            let is_alike = |other: &&mut Failed| {
                other.error.is_temporary() == error.is_temporary()
                    && other.part.settlements[0].envelope.queue == settlement.envelope.queue
            };
            match failed.iter_mut().find(is_alike) {
                Some(other) => other.part.settlements.push(settlement.clone()),
                None => failed.push(Failed {
                    part: Part {
                        settlements: vec![settlement.clone()],
                        refused: part.refused.clone(),
                    },
                    error,
                }),
            }
        }
        self.note_settled(&recorded, settled);
        failed
    }

    /// Archives a task whose outcome the broker refuses, without its result, so that it does not block others or run
    /// endlessly.
    fn archived_in_place(&self, refused: &Settlement, error: &BrokerError) -> Settlement {
        let task = refused.envelope.task_ref();
        tracing::error!(%task, event = %refused.envelope.event, %error,
            "the broker refused the outcome of this task; archiving it without its result");
        let mut envelope = Envelope::clone(&refused.envelope);
        envelope.push_failure(Failure {
            attempt: envelope.attempts.saturating_add(1),
            started: None,
            at: self.broker.now(),
            kind: FailureKind::Error,
            message: format!("the broker refused its outcome: {error}"),
            backtrace: None,
            worker: Some(self.worker.clone()),
        });
        Settlement {
            leased: Arc::clone(&refused.leased),
            envelope: Arc::new(envelope),
            token: refused.token,
            outcome: Outcome::Archive,
            only_if_expired: refused.only_if_expired,
        }
    }

    fn note_settled(&self, part: &[Settlement], settled: Vec<Settled>) {
        let (part, settled) = self.recorded(part, settled);
        let part = &*part;
        self.note_stale(part, &settled);
        self.note_completed(part, &settled);
        self.note_archived(part, &settled);
        self.statistics.settled(part, &settled);
        let outcomes = part.iter().zip(settled);
        guarded("metrics", || {
            metrics::settled(outcomes, |event| self.registry.knows(event));
        });
    }

    /// The outcomes that the broker has recorded. An attempt that did not commit its transaction has failed.
    pub(super) fn recorded<'p>(
        &self,
        part: &'p [Settlement],
        mut settled: Vec<Settled>,
    ) -> (Cow<'p, [Settlement]>, Vec<Settled>) {
        let mut part = Cow::Borrowed(part);
        for (place, settled) in settled.iter_mut().enumerate() {
            if *settled == Settled::NotCommitted {
                let failed = promised::not_committed(&part[place], self.broker.now());
                part.to_mut()[place] = failed;
                *settled = Settled::Recorded;
            }
        }
        (part, settled)
    }

    /// Reports outcomes that came after a transaction of the handler had completed the task.
    pub(super) fn note_completed(&self, batch: &[Settlement], settled: &[Settled]) {
        for (settlement, settled) in batch.iter().zip(settled) {
            let is_complete = matches!(settlement.outcome, Outcome::Complete { .. });
            if *settled != Settled::Completed || is_complete {
                continue;
            }
            let before = settlement.leased.last_failure();
            let error = settlement.envelope.last_failure();
            let error = error.filter(|error| Some(*error) != before);
            tracing::warn!(task = %settlement.envelope.task_ref(), event = %settlement.envelope.event,
                error = error.map(|error| &*error.message),
                "the task was completed in a transaction of its handler; the outcome after that is ignored");
        }
    }

    fn note_stale(&self, batch: &[Settlement], settled: &[Settled]) {
        for (settlement, settled) in batch.iter().zip(settled) {
            if *settled == Settled::Stale {
                Counters::add(&self.counters.stale, 1);
                tracing::warn!(task = %settlement.envelope.task_ref(), "outcome refused: the lease had expired");
            }
        }
    }
}
