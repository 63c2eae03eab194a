//! The outbox: an application enqueues in a transaction of its own database, and a relay moves the tasks to the broker.
//!
//! An [`Outbox`] is a table in the application's database. The application writes a task there together with its own
//! rows, so that the task exists if and only if the transaction is committed. A [`Relay`] in any process sends the
//! tasks to the broker, which may be on another server, and then removes them from the table.
//!
//! # How each task is accepted once
//!
//! A relay may die after the broker has accepted a task and before the entry is removed. The next relay sends the entry
//! again, perhaps after the task has ended and is gone. So each entry has a number, and the queue remembers the number
//! of the last task that it has accepted from this outbox, in the step that accepts the task. It refuses that number and
//! all before it: see [`TickGuard::of_outbox`](crate::broker::TickGuard::of_outbox). Three rules make this exact:
//!
//! - The relay numbers an entry when it takes it, before it sends it, and the number never changes. Numbers
//!   [grow with time](next_number), so that new entries of a database that was restored from a backup are accepted.
//! - The entries of a queue are sent in the order of their numbers.
//! - A failed entry is recorded before an entry behind it is sent. To be sent again, it gets a new number.
//!
//! One relay of an outbox has the *turn*. This saves work, and nothing depends on it: a relay that lost its turn while it
//! was suspended sends only numbers that the queue refuses.

mod entry;
mod error;
mod queues;
mod relay;
mod report;
mod send;

use std::{fmt, time::Duration};

use async_trait::async_trait;

pub use self::{
    entry::{Done, Entry, FailedEntry, OutboxSize, StoredTask, Which, next_number},
    error::OutboxError,
    relay::{Relay, RelayError, RelayHandle},
};
use crate::task::Name;

/// The table of an application's database that tasks wait in, as a [`Relay`] uses it. Clones of a handle share one
/// table, and so do all processes that open the same database.
///
/// An entry is *waiting* or *failed*. It appears with the commit of the application's transaction, without a number.
/// Entries without a number have an order: those of a transaction are in the order in which it wrote them, and of two
/// transactions, the one that was committed before the other began comes first. Where transactions overlap, either may be
/// first.
///
/// Each method is one transaction. It can be cut off at any `await`: the change was made or it was not.
#[async_trait]
pub trait Outbox: fmt::Debug + Send + Sync + 'static {
    /// What logs, metrics and the monitor call this outbox. Two outboxes may have the same name.
    fn name(&self) -> &Name;

    /// Takes the turn, or extends it, and returns the next waiting entries. Of each queue it returns first those that
    /// have a number, in its order, then the others in their order. The latter get [their numbers](next_number) in the
    /// same step, each higher than all before. An entry that appears later gets a higher number, whenever it was written. The change survives a loss of power once this
    /// returns.
    ///
    /// Changes nothing if another relay has the turn and it has not ended. It need not write if there is no entry to
    /// return and the turn of this relay lasts for at least half of the time requested.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached.
    async fn take(&self, take: &Take<'_>) -> Result<Taken, OutboxError>;

    /// Records what became of entries, if the relay still has the turn, even if the time of the turn is over. Returns
    /// whether it has. Removing an entry that does not exist does nothing.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached.
    async fn finish(&self, relay: &Name, done: &[Done]) -> Result<bool, OutboxError>;

    /// Ends the turn of this relay, if it has it, so that another relay can take it immediately.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached.
    async fn leave(&self, relay: &Name) -> Result<(), OutboxError>;

    /// How many entries there are.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached.
    async fn size(&self) -> Result<OutboxSize, OutboxError>;

    /// Up to `limit` failed entries, oldest first, after the one at `after`: 0 for the start.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached.
    async fn failed(&self, after: u64, limit: usize) -> Result<Vec<FailedEntry>, OutboxError>;

    /// Makes failed entries wait again, as if they were written now and without a number, so that they are sent behind
    /// those that have one. Returns how many.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached.
    async fn retry(&self, which: Which<'_>) -> Result<u64, OutboxError>;

    /// Deletes failed entries. Returns how many.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached.
    async fn delete(&self, which: Which<'_>) -> Result<u64, OutboxError>;

    /// Completes once there may be entries that the last [`take`](Self::take) of this handle did not see. The default
    /// never completes: the relay polls once a second.
    async fn changed(&self) {
        std::future::pending().await
    }
}

/// What a relay requests of [`Outbox::take`].
#[derive(Clone, Copy, Debug)]
pub struct Take<'a> {
    /// The relay. No two relays have the same name, and a relay that has lost its turn takes another one.
    pub relay: &'a Name,
    /// How long the turn lasts from now, by the clock of the database or of its machine. If the clock was set back, a
    /// turn that lasts for longer than this has ended.
    pub turn: Duration,
    /// Queues whose entries are not returned.
    pub except: &'a [Name],
    /// How many entries are returned at most, and about how many bytes of them.
    pub limit: usize,
    /// About how many bytes the tasks returned may have together. The first one is returned in any case.
    pub bytes: usize,
}

/// The result of [`Outbox::take`].
#[derive(Clone, Debug)]
pub enum Taken {
    /// Another relay has the turn.
    Busy,
    /// This relay has the turn.
    Turn {
        /// The unique id of the outbox, which is stored in its database. It names the outbox in the queues that
        /// remember its last numbers.
        outbox: Name,
        /// Whether it did not have the turn before, or lost it in between.
        is_new: bool,
        /// The next entries.
        entries: Vec<Entry>,
        /// Whether there may be more entries to take now.
        more: bool,
    },
}
