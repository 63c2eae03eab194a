//! Queues that tasks in transactions of callers use are created before, outside of these transactions: others that need a
//! queue which such a transaction had created would wait until it ends.

use std::collections::BTreeSet;

use asynqueue_core::{broker::NewTask, task::Name};
use parking_lot::Mutex;

use super::PostgresBroker;
use crate::sql::{Call, values::texts};

/// The limit of names that are remembered.
const MAX_NAMES: usize = 10_000;

/// Queues that this process has created, or found. One that another process has deleted may be among them: then the
/// transaction creates it.
#[derive(Debug, Default)]
pub(super) struct Created(Mutex<BTreeSet<Name>>);

impl Created {
    pub(super) fn forget(&self, queue: &Name) {
        self.0.lock().remove(queue);
    }

    fn missing<'t>(&self, tasks: &'t [NewTask]) -> BTreeSet<&'t Name> {
        let known = self.0.lock();
        let queues = tasks.iter().map(|task| &task.envelope.queue);
        queues.filter(|queue| !known.contains(*queue)).collect()
    }

    fn add(&self, queues: BTreeSet<&Name>) {
        let mut known = self.0.lock();
        if known.len() + queues.len() > MAX_NAMES {
            known.clear();
        }
        known.extend(queues.into_iter().cloned());
    }
}

impl PostgresBroker {
    /// Creates the queues of these tasks that do not exist. They are listed once they have had a task.
    pub(crate) async fn create_queues(&self, tasks: &[NewTask]) {
        let missing = self.0.created.missing(tasks);
        if missing.is_empty() {
            return;
        }
        let names = texts(missing.iter().copied());
        let call = Call::new("select asynqueue.create_queues($1)", [names]);
        match self.link().call_once(&call).await {
            Ok(_) => self.0.created.add(missing),
            Err(fault) => {
                tracing::debug!(
                    ?fault,
                    "could not create queues; the transaction of the caller creates them"
                );
            }
        }
    }
}
