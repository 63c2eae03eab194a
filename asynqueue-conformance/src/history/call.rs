//! Requests of clients to a store, and its responses.

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
    /// Leases from queues, up to a maximum from each.
    Lease {
        /// The queues, each once, with the maximum to take from it.
        queues: Vec<(Name, usize)>,
        /// The duration of the leases: zero, or longer than the history.
        lease: Duration,
    },
    /// Extends leases by this duration: zero ends them, otherwise longer than the history.
    Extend(Vec<Lease>, Duration),
    /// Settles leases.
    Settle(Vec<Settlement>),
    /// Edits tasks.
    Edit(Vec<Edit>),
    /// Looks up tasks.
    Look(Vec<TaskRef>),
}

/// A store's response to the request of the same name, in the order of the request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// For each task.
    Enqueued(Vec<Result<(), Conflict>>),
    /// For each queue.
    Leased(Each<Vec<Leased>>),
    /// For each lease.
    Extended(Each<Extended>),
    /// For each settlement.
    Settled(Each<Settled>),
    /// For each edit.
    Edited(Vec<Edited>),
    /// For each task.
    Looked(Vec<Option<TaskInfo>>),
}

/// A caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its number. A client has one call in progress at a time.
    pub number: usize,
    /// Its process. Clients of one process use the same handle of the store.
    pub process: usize,
}

impl Client {
    /// The worker name that it leases with.
    pub fn worker(&self) -> Name {
        format!("client-{}", self.number).into()
    }
}

/// A call from its start to its end.
#[derive(Clone, Debug)]
pub struct Call {
    /// The caller.
    pub client: Client,
    /// When it started: a number among the starts and ends of all calls.
    pub begin: u64,
    /// When it ended. `None` if it was cut off.
    pub end: Option<u64>,
    /// How long it took until its end or until it was cut off.
    pub took: Duration,
    /// The request.
    pub request: Request,
    /// The response, the error's text if it failed, or `None` if it was cut off.
    pub answer: Option<Result<Answer, String>>,
}

impl Call {
    /// The response, if there is one.
    pub fn answered(&self) -> Option<&Answer> {
        self.answer.as_ref()?.as_ref().ok()
    }
}
