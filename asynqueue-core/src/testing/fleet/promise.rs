//! What asynqueue promises of each fleet, whatever happens to it.

use std::fmt;

/// A promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Promise {
    /// A task that was accepted completes, is archived with a failure that says why, or is removed on demand. It holds whenever the store
    /// keeps what it accepted and a server runs that handles the event.
    Kept,
    /// A task has one outcome: it is recorded for the current lease only, and nothing is recorded after it, until an operator asks for
    /// the task again. It holds always.
    OneOutcome,
    /// An attempt starts once, unless it was released untouched. It holds unless the store counts leases by a clock which is set forward
    /// while the answer of a lease takes half as long as the lease.
    OnceStarted,
    /// A lease is lost only by a worker that was killed, frozen or cut off from the store, so only then can a task run beside itself.
    /// It holds unless a handler keeps the server's own thread from running, and, where the store counts leases by a clock that is set,
    /// while servers that share a queue have the same lease.
    LeaseHeld,
    /// A task does not start before it is due, by the store's clock. An operator may ask for it earlier.
    NotEarly,
    /// A task goes from state to state as the state machine says: only a pending task is leased, and only what is not finished is settled.
    /// It holds always.
    States,
    /// A unique key is held by one task at a time, and by none once that has come to its end. It holds until the lock's time is over.
    Unique,
    /// Each member of a group is in exactly one aggregate, and the aggregate is accepted in the same step. It holds always.
    Grouped,
    /// Each tick of a schedule entry is enqueued once. It holds unless the store's clock is set: a tick that it remembers from
    /// far ahead of its time is one of a clock that was wrong.
    OneTick,
    /// The figures of a queue equal what happened in it, and the attempts of a task what was tried: one that was given back or snoozed
    /// does not count, and a failed one counts once. It holds always.
    Counted,
    /// A task starts soon after it is due while no fault strikes, however sick other queues are. It holds while slots are free, and servers lease.
    Prompt,
    /// Nothing is left at the end: no lease, no held slot, no waiter.
    NothingLeft,
    /// A server stops within its shutdown timeout, its cancel grace and the time for the last calls.
    ShutDown,
    /// What an operator was answered as done has its effect. It holds always.
    Obeyed,
    /// A result is that of its task. It holds always.
    Result,
    /// A published event reaches each subscriber that was known, once. It holds unless the store loses its subscriptions.
    Published,
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broken {
    /// The promise.
    pub promise: Promise,
    /// How it shows.
    pub what: String,
}

impl Broken {
    /// A promise that was not kept, and how it shows.
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
