//! The promises of asynqueue, which hold for every fleet under all faults.

use std::fmt;

/// A promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Promise {
    /// A task that was accepted completes, is archived with a failure that contains the reason, or is removed on
    /// request. Holds whenever the store keeps what it accepted and a server runs that handles the event.
    Kept,
    /// A task has one outcome: it is recorded only for the current lease, and nothing is recorded after it, until an
    /// operator runs the task again. Always holds.
    OneOutcome,
    /// An attempt starts once, unless it was released unchanged. Holds unless the store measures leases by a clock that
    /// is set forward while the response to a lease takes half as long as the lease.
    OnceStarted,
    /// A lease is lost only by a worker that was killed, frozen or cut off from the store, so a task can run twice at
    /// the same time only then. Holds unless a handler blocks the server's own thread, and, if the store measures
    /// leases by a clock that is set, while all servers of a queue use the same lease.
    LeaseHeld,
    /// A task does not start before it is due, by the store's clock. An operator may run it earlier.
    NotEarly,
    /// A task changes its state only along the state machine: only a pending task is leased, and only an unfinished one
    /// is settled. Always holds.
    States,
    /// A unique key is held by one task at a time, and by none once that task has finished. Holds until the lock's ttl
    /// ends.
    Unique,
    /// Each member of a group is in exactly one aggregate, and the aggregate is accepted in the same step. Always
    /// holds.
    Grouped,
    /// Each tick of a schedule entry is enqueued once. Holds unless the store's clock is set: a tick far ahead of its
    /// time came from a wrong clock.
    OneTick,
    /// The figures of a queue match its events, and the attempts of a task match what was tried: a released or snoozed
    /// attempt does not count, and a failed one counts once. Always holds.
    Counted,
    /// A task starts soon after it is due while no fault is active, even if other queues are sick. Holds while workers
    /// are free and servers lease tasks.
    Prompt,
    /// Nothing is left at the end: no lease, no held slot, no waiter.
    NothingLeft,
    /// A server stops within its shutdown timeout, its cancel grace and the time for the last calls.
    ShutDown,
    /// An action that was reported to an operator as done has taken effect. Always holds.
    Obeyed,
    /// A result is the result of its task. Always holds.
    Result,
    /// A published event reaches each known subscriber once. Holds unless the store loses its subscriptions.
    Published,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broken {
    /// The promise that was broken.
    pub promise: Promise,
    /// The evidence.
    pub what: String,
}

impl Broken {
    /// A broken promise with its evidence.
    pub fn new(promise: Promise, what: impl Into<String>) -> Self {
        Self {
            promise,
            what: what.into(),
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.promise, self.what)
    }
}
