//! Leases: who runs a task, until when, and what comes of it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::task::{Envelope, EnvelopeChanges, Name, TaskRef, Timestamp};

/// Asks for pending tasks.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LeaseRequest {
    /// The queues to take from, in order, and how many at most from each.
    pub queues: Vec<(Name, usize)>,
    /// How many at most in all.
    pub max: usize,
    /// How long the leases last unless they are extended.
    pub lease: Duration,
    /// Who asks.
    pub worker: Name,
}

impl LeaseRequest {
    /// Asks for up to `max` tasks of these queues, and how many at most from each.
    pub fn new(queues: Vec<(Name, usize)>, max: usize, lease: Duration, worker: Name) -> Self {
        Self {
            queues,
            max,
            lease,
            worker,
        }
    }
}

/// Tells one lease of a task from all others, so that a worker whose lease ran out can't settle the task that another
/// has by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseToken(pub u64);

/// Points at a lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The task.
    pub task: TaskRef,
    /// The lease.
    pub token: LeaseToken,
}

/// A leased task.
#[derive(Clone, Debug)]
pub struct Leased {
    /// The task.
    pub envelope: Arc<Envelope>,
    /// The lease.
    pub token: LeaseToken,
    /// The broker's time when it was leased, to compare the task's deadline with.
    pub now: Timestamp,
    /// Since when it had been pending, where the broker can tell.
    pub pending_since: Option<Timestamp>,
    /// The task as it was leased, whatever becomes of `envelope`.
    original: Arc<Envelope>,
}

impl Leased {
    /// A task that is leased under this token since `now`, by the broker's clock.
    pub fn new(envelope: Arc<Envelope>, token: LeaseToken, now: Timestamp) -> Self {
        Self {
            original: Arc::clone(&envelope),
            envelope,
            token,
            now,
            pending_since: None,
        }
    }

    /// The task as it was leased. [`envelope`](Self::envelope) also has what the worker notes on it.
    pub fn original(&self) -> &Arc<Envelope> {
        &self.original
    }

    /// Points at this lease.
    pub fn lease(&self) -> Lease {
        Lease {
            task: self.envelope.task_ref(),
            token: self.token,
        }
    }

    /// Ends this lease with `outcome`.
    pub fn settle(self, outcome: Outcome) -> Settlement {
        Settlement {
            leased: self.original,
            envelope: self.envelope,
            token: self.token,
            outcome,
            only_if_expired: false,
        }
    }
}

/// What became of a lease that was to be extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extended {
    /// It goes on.
    Yes,
    /// It goes on, and someone has asked for the task to be cancelled.
    CancelRequested,
    /// It had ended, and the task is settled, leased to another or deleted.
    Lost,
}

/// The outcome of a lease.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The task as it was leased.
    pub leased: Arc<Envelope>,
    /// The task, with what the attempt adds to its failures and attempts. The broker keeps this version.
    pub envelope: Arc<Envelope>,
    /// The lease that this ends.
    pub token: LeaseToken,
    /// What comes next.
    pub outcome: Outcome,
    /// Whether it counts only while the lease has ended. So does that of a server which reclaims the task of another:
    /// the other may turn out to live, and extend its lease, in between.
    pub only_if_expired: bool,
}

impl Settlement {
    /// Whether the attempt has changed nothing of the task: then a broker that keeps it leaves what it has stored of it.
    pub fn is_unchanged(&self) -> bool {
        Arc::ptr_eq(&self.leased, &self.envelope) || self.leased == self.envelope
    }

    /// What workers have changed of the task so far, with what the attempt adds to that; `None` if it adds nothing. A store
    /// can keep these few bytes beside the envelope that was enqueued, and never write that again.
    pub fn changes(&self) -> Option<EnvelopeChanges> {
        (!self.is_unchanged()).then(|| EnvelopeChanges::of(&self.envelope))
    }
}

/// What comes next for a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done: completed if it has a retention, else gone.
    Complete {
        /// The encoded output.
        result: Option<Bytes>,
    },
    /// It has failed and is to run again after this long. Archived instead if its cancellation was requested.
    Retry {
        /// Zero makes it pending at once.
        delay: Duration,
    },
    /// It is to run again after this long, and has not failed. A lock [until its start](crate::task::UniqueUntil::Start) is taken
    /// again, if it is free. Archived instead if its cancellation was requested.
    Snooze {
        /// How long it is scheduled ahead. Zero makes it pending at once.
        delay: Duration,
    },
    /// It is given back, untouched, to the front of those of its priority; of several in a batch the last goes first. A lock
    /// [until its start](crate::task::UniqueUntil::Start) is taken again; if another task holds it, the task waits without it.
    /// Archived instead if its cancellation was requested.
    Release,
    /// It will not run again; its last failure says why, and one more who cancelled it if someone has asked to.
    Archive,
    /// It is deleted.
    Drop,
}

/// Whether an outcome was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It was.
    Recorded,
    /// The task was archived in place of it, since its cancellation was requested.
    Cancelled,
    /// It was refused, since its token is not current: the lease had run out and the task is settled, leased to
    /// another or deleted.
    Stale,
}
