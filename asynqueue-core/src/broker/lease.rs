//! Leases: which worker runs a task, until when, and with which outcome.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::task::{Envelope, EnvelopeChanges, Name, TaskRef, Timestamp};

/// A request for pending tasks.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LeaseRequest {
    /// The queues to lease from, in this order, each with the maximum number of tasks from it.
    pub queues: Vec<(Name, usize)>,
    /// The maximum number of tasks in total.
    pub max: usize,
    /// How long the leases last unless they are extended.
    pub lease: Duration,
    /// The name of the worker that leases.
    pub worker: Name,
}

impl LeaseRequest {
    /// Requests up to `max` tasks from these queues, each with the maximum number of tasks from it.
    pub fn new(queues: Vec<(Name, usize)>, max: usize, lease: Duration, worker: Name) -> Self {
        Self {
            queues,
            max,
            lease,
            worker,
        }
    }
}

/// Identifies one lease of a task, so that a worker whose lease has expired cannot settle a task that another worker
/// has leased since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseToken(pub u64);

/// A reference to a lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The task that is leased.
    pub task: TaskRef,
    /// The token of the lease.
    pub token: LeaseToken,
}

/// A leased task.
#[derive(Clone, Debug)]
pub struct Leased {
    /// The task, including the changes that the worker makes to it.
    pub envelope: Arc<Envelope>,
    /// The token to extend and settle the lease with.
    pub token: LeaseToken,
    /// The broker's time of the lease, to compare the task's deadline with.
    pub now: Timestamp,
    /// Since when it had been pending, if the broker knows.
    pub pending_since: Option<Timestamp>,
    /// The task as it was leased, even after `envelope` changes.
    original: Arc<Envelope>,
}

impl Leased {
    /// A task leased under this token at `now`, by the broker's clock.
    pub fn new(envelope: Arc<Envelope>, token: LeaseToken, now: Timestamp) -> Self {
        Self {
            original: Arc::clone(&envelope),
            envelope,
            token,
            now,
            pending_since: None,
        }
    }

    /// The task as it was leased. [`envelope`](Self::envelope) also contains what the worker has changed.
    pub fn original(&self) -> &Arc<Envelope> {
        &self.original
    }

    /// A reference to this lease.
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

/// The result of extending a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extended {
    /// The lease was extended.
    Yes,
    /// The lease was extended, and cancellation of the task was requested.
    CancelRequested,
    /// The lease is no longer current: the task has been settled, leased again or deleted.
    Lost,
}

/// The outcome of a lease.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The task as it was leased.
    pub leased: Arc<Envelope>,
    /// The task with the failures and attempts that this attempt adds. The broker stores this version.
    pub envelope: Arc<Envelope>,
    /// The token of the lease that this ends.
    pub token: LeaseToken,
    /// What happens to the task next.
    pub outcome: Outcome,
    /// Whether it is valid only if the lease has expired. Set by a server that reclaims a task of another server: the
    /// other one may still be alive and extend its lease in between.
    ///
    /// It also decides how [`Outcome::Retry`] and [`Outcome::Archive`] count. With it, the attempt was lost with its
    /// server ([`QueueStats::lost`]). Without it, the attempt failed ([`QueueStats::failed`]). A requested cancellation
    /// changes neither. A store uses [`counts_as`](Self::counts_as).
    ///
    /// [`QueueStats::lost`]: super::QueueStats::lost
    /// [`QueueStats::failed`]: super::QueueStats::failed
    pub only_if_expired: bool,
}

/// How an attempt that has ended counts in the figures of its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// It succeeded.
    Succeeded,
    /// It failed.
    Failed,
    /// It was lost with its server.
    Lost,
}

impl Settlement {
    /// How the attempt counts once this is recorded. `None` if it counts as none: it was snoozed, released or dropped.
    pub fn counts_as(&self) -> Option<Counted> {
        match self.outcome {
            Outcome::Complete { .. } => Some(Counted::Succeeded),
            Outcome::Retry { .. } | Outcome::Archive if self.only_if_expired => Some(Counted::Lost),
            Outcome::Retry { .. } | Outcome::Archive => Some(Counted::Failed),
            Outcome::Snooze { .. } | Outcome::Release | Outcome::Drop => None,
        }
    }

    /// Whether the attempt changed nothing in the task. A broker that keeps the task then leaves its stored version as
    /// it is.
    pub fn is_unchanged(&self) -> bool {
        Arc::ptr_eq(&self.leased, &self.envelope) || self.leased == self.envelope
    }

    /// All changes that workers have made to the task so far, including those of this attempt. `None` if this attempt
    /// adds nothing. A store can keep these few bytes beside the enqueued envelope and never rewrite the envelope.
    pub fn changes(&self) -> Option<EnvelopeChanges> {
        (!self.is_unchanged()).then(|| EnvelopeChanges::of(&self.envelope))
    }
}

/// What happens to a task after an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The task succeeded: it is completed if it has a retention, and deleted otherwise.
    Complete {
        /// The encoded output. `None` for an output of `()`.
        result: Option<Bytes>,
    },
    /// The task failed and runs again after a delay. Archived instead if its cancellation was requested.
    Retry {
        /// How long until the retry. Zero makes the task pending immediately.
        delay: Duration,
    },
    /// The task runs again after a delay, without a failure. A lock [until its start](crate::task::UniqueUntil::Start)
    /// is taken again if it is free. Archived instead if its cancellation was requested.
    Snooze {
        /// How long until the task runs again. Zero makes it pending immediately.
        delay: Duration,
    },
    /// The task is released unchanged to the front of its priority; of several in a batch, the last one runs first. A
    /// lock [until its start](crate::task::UniqueUntil::Start) is taken again; if another task holds it, the task waits
    /// without it. Archived instead if its cancellation was requested.
    Release,
    /// The task will not run again. Its last failure is the reason; a failure for the cancellation is added if one was
    /// requested.
    Archive,
    /// The task is deleted.
    Drop,
}

/// Whether an outcome was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The outcome was recorded.
    Recorded,
    /// The task was archived instead, because its cancellation was requested.
    Cancelled,
    /// The task was completed in a transaction of its handler before, which is what counts. This outcome has no effect.
    Completed,
    /// The handler completed the task in a transaction that it did not commit. The attempt was recorded as a failure
    /// instead: the task is retried, or archived.
    NotCommitted,
    /// The outcome was refused because its token is not current: the lease had expired, and the task has been settled,
    /// leased again or deleted.
    Stale,
}
