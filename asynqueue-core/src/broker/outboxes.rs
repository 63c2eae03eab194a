//! What the relay of an outbox reports, and what can be requested of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    outbox::FailedEntry,
    task::{Name, Timestamp},
};

/// What the relay of an [outbox](crate::outbox) reports every five seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OutboxInfo {
    /// The unique id of the outbox.
    pub id: Name,
    /// What the application calls it.
    pub name: Name,
    /// The host name of the machine that the relay runs on.
    pub host: String,
    /// The id of its operating system process.
    pub pid: u32,
    /// When the relay took the turn.
    pub since: Timestamp,
    /// When it sent this report, by the broker's clock.
    pub seen: Timestamp,
    /// Entries that wait to be relayed.
    pub waiting: u64,
    /// How long the next of them has been waiting, in milliseconds.
    pub age: u64,
    /// Entries that have failed.
    pub failed: u64,
    /// The oldest failed entries: at most [`OutboxInfo::MAX_ENTRIES`] of them.
    pub entries: Vec<FailedEntry>,
    /// Tasks that the broker has accepted since the relay took the turn.
    pub accepted: u64,
    /// Tasks that it has refused for a conflict since then.
    pub refused: u64,
    /// Why entries cannot be relayed now. `None` if they can.
    pub error: Option<String>,
    /// The time of the last request that the relay has followed.
    pub served: Option<Timestamp>,
}

impl OutboxInfo {
    /// A relay reports at most this many failed entries.
    pub const MAX_ENTRIES: usize = 50;

    /// A relay that has not reported for this long is lost.
    pub const LOST_AFTER: Duration = Duration::from_secs(30);

    /// An outbox whose relay took the turn at `since` and has reported nothing else.
    pub fn new(id: impl Into<Name>, name: impl Into<Name>, since: Timestamp) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            host: String::new(),
            pid: 0,
            since,
            seen: since,
            waiting: 0,
            age: 0,
            failed: 0,
            entries: Vec::new(),
            accepted: 0,
            refused: 0,
            error: None,
            served: None,
        }
    }

    /// Whether no relay moves the entries of this outbox: the last one has stopped, and no other took its turn, or it
    /// cannot reach the broker.
    pub fn is_lost(&self, now: Timestamp) -> bool {
        now.since(self.seen) > Self::LOST_AFTER
    }
}

/// A change of failed entries that is requested of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OutboxAction {
    /// Send all failed entries again.
    RetryAll,
    /// Send the failed entry at this [place](FailedEntry::place) again.
    Retry(u64),
    /// Delete the failed entry at this place.
    Delete(u64),
}

/// What was requested of a relay, and not followed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OutboxRequest {
    /// When it was requested last, by the broker's clock. No two requests to an outbox have the same time.
    pub at: Timestamp,
    /// The changes, in their order: at most [`OutboxRequest::MAX_ACTIONS`] of them.
    pub actions: Vec<OutboxAction>,
}

impl OutboxRequest {
    /// Further changes replace the oldest ones, which were not followed for a long time.
    pub const MAX_ACTIONS: usize = 1_000;

    /// A request for these changes at the time `now`, in addition to the request `before`. Its time is later than that
    /// of the other, even if the clock moved backwards.
    #[must_use]
    pub fn after(before: Option<Self>, actions: Vec<OutboxAction>, now: Timestamp) -> Self {
        let Some(mut request) = before else {
            return Self { at: now, actions };
        };
        request.at = now.max(request.at + Duration::from_millis(1));
        request.actions.extend(actions);
        let excess = request.actions.len().saturating_sub(Self::MAX_ACTIONS);
        request.actions.drain(..excess);
        request
    }
}
