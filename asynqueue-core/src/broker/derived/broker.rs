//! `Broker`: calls the store's methods of the same name.

use std::{future::ready, time::Duration};

use futures_util::future::BoxFuture;

use super::{as_stored, unsupported};
use crate::{
    broker::{
        Broker, BrokerError, Capabilities, Conflict, Durability, Each, Extended, Forwarded, Keep,
        Lease, LeaseRequest, Leased, NewTask, Settled, Settlement, Store, Trimmed,
    },
    task::{Name, Timestamp},
};

impl<S: Store> Broker for S {
    fn now(&self) -> Timestamp {
        Store::now(self)
    }

    fn capabilities(&self) -> Capabilities {
        Store::capabilities(self)
    }

    fn as_store(&self) -> &dyn Store {
        self
    }

    fn enqueue<'life0, 'async_trait>(
        &'life0 self,
        tasks: Vec<NewTask>,
    ) -> BoxFuture<'async_trait, Accepted>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        match self.refused(&tasks) {
            Some(error) => Box::pin(ready(Err(error))),
            None => Store::enqueue(self, tasks),
        }
    }

    fn enqueue_durably<'life0, 'async_trait>(
        &'life0 self,
        tasks: Vec<NewTask>,
        durability: Durability,
    ) -> BoxFuture<'async_trait, Accepted>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        match self.refused(&tasks) {
            Some(error) => Box::pin(ready(Err(error))),
            None => Store::enqueue_durably(self, tasks, durability),
        }
    }

    as_stored! {
        fn lease(['life1] request: LeaseRequest) -> Each<Vec<Leased>>;
        fn extend(['life1] leases: [Lease], lease: Duration) -> Each<Extended>;
        fn settle(['life1] settlements: [Settlement]) -> Each<Settled>;
        fn forward(['life1] queues: [Name], limit: usize) -> Each<Forwarded>;
        fn expired(['life1] queues: [Name], by: Timestamp, limit: usize) -> Each<Vec<Leased>>;
        fn trim(['life1] queues: [Name], keep: Keep, limit: usize) -> Each<Trimmed>;
        fn hand_over(['life1] queues: [Name]) -> ();
    }
}

/// The result of enqueueing tasks.
type Accepted = Result<Vec<Result<(), Conflict>>, BrokerError>;

/// Refuses in advance what the store does not support.
trait Refuse: Store {
    /// The error if the store cannot accept any of these tasks: some are to wait in groups, and it does not support
    /// groups.
    fn refused(&self, tasks: &[NewTask]) -> Option<BrokerError> {
        if Store::capabilities(self).groups {
            return None;
        }
        let mut tasks = tasks.iter();
        tasks
            .any(|task| task.envelope.aggregated_in().is_some())
            .then(|| unsupported("aggregating tasks"))
    }
}

impl<S: Store> Refuse for S {}
