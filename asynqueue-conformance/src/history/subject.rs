//! The interface of stores to recorded calls.

use async_trait::async_trait;
use asynqueue_core::{
    broker::{BrokerError, LeaseRequest, Store},
    task::Name,
};

use super::call::{Answer, Request};

/// The target of requests: a [`Store`], or something in front of one.
#[async_trait]
pub trait Subject: Send + Sync + 'static {
    /// Performs a request, with this worker if it is a lease request.
    ///
    /// # Errors
    ///
    /// When the store failed. The request may then have taken effect, may do so later, or never will.
    async fn perform(&self, worker: &Name, request: &Request) -> Result<Answer, BrokerError>;
}

#[async_trait]
impl<S: Store + ?Sized> Subject for S {
    async fn perform(&self, worker: &Name, request: &Request) -> Result<Answer, BrokerError> {
        Ok(match request {
            Request::Enqueue(tasks) => Answer::Enqueued(self.enqueue(tasks.clone()).await?),
            Request::Lease { queues, lease } => {
                let max = queues.iter().map(|(_, cap)| cap).sum();
                let request = LeaseRequest::new(queues.clone(), max, *lease, worker.clone());
                Answer::Leased(self.lease(&request).await?)
            }
            Request::Extend(leases, lease) => Answer::Extended(self.extend(leases, *lease).await?),
            Request::Settle(settlements) => Answer::Settled(self.settle(settlements).await?),
            Request::Edit(edits) => Answer::Edited(self.edit(edits).await?),
            Request::Look(tasks) => Answer::Looked(self.tasks(tasks).await?),
        })
    }
}
