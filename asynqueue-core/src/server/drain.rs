//! Running due tasks in the foreground, for tests.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Server, ServerError, Shared, inbox::Job, queues::QueueSet};
use crate::{
    broker::{BrokerError, LeaseRequest, Settled, Settlement, all_of},
    layer::Passes,
};

/// The maximum number of tasks to make pending in one call.
const MAX_BATCH: usize = 1_000;

impl Server {
    /// Runs one task after another until none is pending or due, and passes each recorded outcome to `settled`.
    pub(crate) async fn drain(
        mut self,
        mut settled: impl FnMut(&Settlement, Settled),
    ) -> Result<(), ServerError> {
        let place = self.shared.place(Arc::default());
        loop {
            while let Some(job) = next(&self.shared, &mut self.queues).await? {
                if let Some(job) = self.shared.receive_alone(job).await {
                    // It counts like any other task, although it was not in the inbox.
                    self.shared.inbox.started(job.queue);
                    self.shared.run_job(job, &place).await;
                }
                let outcomes = self.shared.outbox.take();
                let results = all_of(self.shared.broker.settle(&outcomes).await)?;
                let (outcomes, results) = self.shared.recorded(&outcomes, results);
                self.shared.note_completed(&outcomes, &results);
                self.shared.note_archived(&outcomes, &results);
                self.shared.call_waiting_hooks().await;
                for (outcome, result) in outcomes.iter().zip(results) {
                    if result != Settled::Stale {
                        settled(outcome, result);
                    }
                }
            }
            let Shared {
                broker,
                queue_names,
                ..
            } = &*self.shared;
            let forwarded = all_of(broker.forward(queue_names, MAX_BATCH).await)?;
            if forwarded.iter().all(|of_queue| of_queue.moved == 0) {
                return Ok(());
            }
        }
    }
}

/// Leases the next task.
async fn next(shared: &Arc<Shared>, queues: &mut QueueSet) -> Result<Option<Job>, BrokerError> {
    queues.set_all_ready();
    loop {
        let shares = queues.shares(1, |_| 0);
        if shares.is_empty() {
            return Ok(None);
        }
        let request = LeaseRequest {
            queues: shares
                .iter()
                .map(|share| (queues.name(share.queue).clone(), share.max))
                .collect(),
            max: 1,
            lease: shared.settings.lease,
            worker: shared.worker.clone(),
        };
        let leased = all_of(shared.broker.lease(&request).await)?;
        if let Some(leased) = leased.into_iter().flatten().next() {
            let queue = queues.position(&leased.envelope.queue);
            let queue = queue.unwrap_or(shares[0].queue);
            return Ok(Some(Job {
                leased,
                queue,
                since: Instant::now(),
                // Nothing reclaims tasks while a test drains.
                held_until: Job::held_until(Instant::now(), Duration::MAX),
                passes: Passes::default(),
            }));
        }
        for share in shares {
            queues.set_ready(share.queue, false);
        }
    }
}
