//! The calls that are recorded, made to a store.

use async_trait::async_trait;
use asynqueue_core::{
    broker::{BrokerError, LeaseRequest, Store},
    task::Name,
};

use super::call::{Answer, Request};

/// What requests are made to: a [`Store`], or something before one.
#[async_trait]
pub trait Subject: Send + Sync + 'static {
    /// Makes a request, for this worker if it is one for leases.
    ///
    /// # Errors
    ///
    /// When the store failed. Then the request may have taken effect, may still, or never will.
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
