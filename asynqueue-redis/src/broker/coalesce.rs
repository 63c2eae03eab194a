//! Concurrent `enqueue` calls for a queue are sent together. Tasks of different queues are sent separately, so that a
//! failing queue does not delay the others. So are tasks of different durabilities.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use asynqueue_core::broker::{BrokerError, Conflict, Durability, NewTask, kit};
use parking_lot::Mutex;

use super::{MAX_CHUNK, RedisBroker, enqueue::Accepted, queue::Queue};

type Coalescer = kit::Coalescer<NewTask, Result<(), Conflict>>;

/// The waiting tasks of a queue, by durability.
#[derive(Debug)]
pub(super) struct Coalescers {
    primary: Arc<Coalescer>,
    others: OnceLock<Mutex<HashMap<Durability, Arc<Coalescer>>>>,
}

impl Default for Coalescers {
    fn default() -> Self {
        Self {
            primary: new(),
            others: OnceLock::new(),
        }
    }
}

impl Coalescers {
    fn of(&self, durability: Durability) -> Arc<Coalescer> {
        if durability.is_primary() {
            return Arc::clone(&self.primary);
        }
        let mut others = self.others.get_or_init(Mutex::default).lock();
        Arc::clone(others.entry(durability).or_insert_with(new))
    }
}

fn new() -> Arc<Coalescer> {
    Arc::new(Coalescer::new(MAX_CHUNK))
}

impl RedisBroker {
    /// Accepts tasks together with those of concurrent callers, or directly if there are none.
    pub(super) async fn accept_with_others(
        &self,
        queue: &Queue,
        tasks: Vec<NewTask>,
        durability: Durability,
    ) -> Result<Accepted, BrokerError> {
        let broker = self.clone();
        let send = move |tasks| {
            let broker = broker.clone();
            async move { broker.accept_batch(tasks, durability).await }
        };
        queue.single.of(durability).call(tasks, send).await
    }
}
