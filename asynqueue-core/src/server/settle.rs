//! Recording outcomes, in batches that form while the one before is under way.

use std::sync::Arc;

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};

use super::{
    Counters, Shared, is_closed,
    outbox::{Failed, Part},
    outcome::guarded,
};
use crate::{
    broker::{BrokerError, Each, Outcome, Settled, Settlement},
    metrics,
    task::{Envelope, Failure, FailureKind, Name},
};

/// What came back of a call that was to record a part.
struct Answered {
    /// The queue, if its outcomes go by themselves.
    of: Option<Name>,
    part: Arc<Part>,
    answers: Result<Each<Settled>, BrokerError>,
}

impl Shared {
    /// Records outcomes until the server has stopped and nothing is left, or the broker is closed.
    pub(super) async fn settle_outcomes(self: Arc<Self>) {
        let mut calls: FuturesUnordered<BoxFuture<'static, Answered>> = FuturesUnordered::new();
        let apart = self.broker.capabilities().is_partitioned;
        loop {
            for (of, part) in self.outbox.begin(apart) {
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
                    // What else is finished in this turn of the runtime comes along.
                    tokio::task::yield_now().await;
                }
                Some(answered) = calls.next() => {
                    if !self.came_back(answered) {
                        return;
                    }
                }
                () = again => {}
                () = self.stopped.cancelled(), if !has_stopped => {}
            }
        }
    }

    async fn record(self: Arc<Self>, of: Option<Name>, part: Arc<Part>) -> Answered {
        let answers = match &part.refused {
            None => self.broker.settle(&part.settlements).await,
            Some(error) => {
                let archived = self.archived_in_place(&part.settlements[0], error);
                self.broker.settle(&[archived]).await
            }
        };
        Answered { of, part, answers }
    }

    /// Acts on what has come back; returns whether to continue.
    fn came_back(&self, answered: Answered) -> bool {
        let Answered { of, part, answers } = answered;
        let answers = match answers {
            Ok(answers) => answers,
            Err(error) if is_closed(&error) => {
                // Their leases end, and they run again elsewhere.
                tracing::error!(%error, tasks = part.settlements.len(), "outcomes could not be recorded");
                return false;
            }
            Err(error) if of.is_none() && error.is_temporary() => {
                self.outbox.all_failed(&part, &error);
                return true;
            }
            Err(error) => vec![Err(error); part.settlements.len()],
        };
        if answers.len() == part.settlements.len() && answers.iter().all(Result::is_ok) {
            let settled = answers.into_iter().flatten().collect();
            self.note_settled(&part.settlements, settled);
            self.outbox.came_back(of.as_ref(), &part, Vec::new());
            return true;
        }
        let failed = self.note_partly_settled(&part, answers);
        self.outbox.came_back(of.as_ref(), &part, failed);
        true
    }

    /// Notes what was recorded of a part, once; returns the rest, by queue and reason.
    fn note_partly_settled(&self, part: &Part, answers: Each<Settled>) -> Vec<Failed> {
        let short = || BrokerError::protocol("fewer answers than outcomes");
        let mut answers = answers.into_iter();
        let (mut recorded, mut settled) = (Vec::new(), Vec::new());
        let mut failed: Vec<Failed> = Vec::new();
        for settlement in &part.settlements {
            let error = match answers.next().unwrap_or_else(|| Err(short())) {
                Ok(answer) => {
                    recorded.push(settlement.clone());
                    settled.push(answer);
                    continue;
                }
                Err(error) => error,
            };
            if part.refused.is_some() && !error.is_temporary() {
                tracing::error!(task = %settlement.envelope.task_ref(), %error,
                    "this task cannot be archived either; it runs again when its lease has ended");
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

    /// What archives a task whose outcome the broker refuses, without its result, so that it holds up no other and does not
    /// run again and again.
    fn archived_in_place(&self, refused: &Settlement, error: &BrokerError) -> Settlement {
        let task = refused.envelope.task_ref();
        tracing::error!(%task, event = %refused.envelope.event, %error,
            "the broker refuses the outcome of this task; it is archived without its result");
        let mut envelope = Envelope::clone(&refused.envelope);
        envelope.push_failure(Failure {
            attempt: envelope.attempts.saturating_add(1),
            started: None,
            at: self.broker.now(),
            kind: FailureKind::Error,
            message: format!("the store refused its outcome: {error}"),
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
        self.note_stale(part, &settled);
        self.note_archived(part, &settled);
        let outcomes = part.iter().zip(settled);
        guarded("metrics", || {
            metrics::settled(outcomes, |event| self.registry.knows(event));
        });
    }

    fn note_stale(&self, batch: &[Settlement], settled: &[Settled]) {
        for (settlement, settled) in batch.iter().zip(settled) {
            if *settled == Settled::Stale {
                Counters::add(&self.counters.stale, 1);
                tracing::warn!(task = %settlement.envelope.task_ref(), "outcome refused: its lease had ended");
            }
        }
    }
}
