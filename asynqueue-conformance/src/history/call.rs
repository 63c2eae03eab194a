//! What clients ask of a store, and what they are answered.

use std::time::Duration;

use asynqueue_core::{
    broker::{
        Conflict, Each, Edit, Edited, Extended, Lease, Leased, NewTask, Settled, Settlement,
        TaskInfo,
    },
    task::{Name, TaskRef},
};

/// A request to a store.
#[derive(Clone, Debug)]
pub enum Request {
    /// Enqueues tasks.
    Enqueue(Vec<NewTask>),
    /// Leases from queues, at most so many from each.
    Lease {
        /// The queues, each once, with the most to take from it.
        queues: Vec<(Name, usize)>,
        /// How long the leases last: zero, or longer than the history.
        lease: Duration,
    },
    /// Extends leases for this long: zero ends them, or longer than the history.
    Extend(Vec<Lease>, Duration),
    /// Settles leases.
    Settle(Vec<Settlement>),
    /// Edits tasks.
    Edit(Vec<Edit>),
    /// Looks tasks up.
    Look(Vec<TaskRef>),
}

/// A store's answer to the request of that name. In the order of the request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Of each task.
    Enqueued(Vec<Result<(), Conflict>>),
    /// Of each queue.
    Leased(Each<Vec<Leased>>),
    /// Of each lease.
    Extended(Each<Extended>),
    /// Of each settlement.
    Settled(Each<Settled>),
    /// Of each edit.
    Edited(Vec<Edited>),
    /// Of each task.
    Looked(Vec<Option<TaskInfo>>),
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its number. A client has one call under way at a time.
    pub number: usize,
    /// The process it is in: clients of one process call by the same handle of the store.
    pub process: usize,
}

impl Client {
    /// The name that it leases under.
    pub fn worker(&self) -> Name {
        format!("client-{}", self.number).into()
    }
}

/// A call from its begin to its end.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who called.
    pub client: Client,
    /// When it began: a number among the begins and ends of all calls.
    pub begin: u64,
    /// When it ended. `None` if it was cut off.
    pub end: Option<u64>,
    /// How long it took, as far as it came.
    pub took: Duration,
    /// What was asked.
    pub request: Request,
    /// The answer; the error's text if it failed, or `None` if it was cut off.
    pub answer: Option<Result<Answer, String>>,
}

impl Call {
    /// The answer, if there is one.
    pub fn answered(&self) -> Option<&Answer> {
        self.answer.as_ref()?.as_ref().ok()
    }
}
