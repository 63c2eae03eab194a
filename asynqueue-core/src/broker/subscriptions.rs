//! The subscribers of each event.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{BrokerError, Restored, StateMark};
use crate::task::{Name, Timestamp};

/// Stores the subscribers of each event. A subscriber stays until it is removed, whether or not a server works for it,
/// so it misses no event in between.
#[async_trait]
pub trait Subscriptions: Send + Sync {
    /// Adds subscribers, given as event and name, which servers [check](Subscription::check) beforehand. An existing
    /// subscriber keeps the time it was added. Clears the record of an earlier removal.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. Subscribing again is safe.
    async fn subscribe(&self, subscribers: Vec<(Name, Name)>) -> Result<(), BrokerError>;

    /// Removes subscribers, given as event and name. The result for each is whether it existed. Tasks already sent to
    /// it stay in its queue.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn unsubscribe(&self, subscribers: &[(Name, Name)]) -> Result<Vec<bool>, BrokerError>;

    /// The subscribers of an event, by name.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn subscribers(&self, event: &Name) -> Result<Vec<Subscription>, BrokerError>;

    /// All subscribers, by event and name.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn subscriptions(&self) -> Result<Vec<Subscription>, BrokerError>;

    /// Identifies the current state of all subscriptions. The cost is small and independent of their number.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn subscriptions_mark(&self) -> Result<StateMark, BrokerError>;

    /// Adds the subscribers that are missing, unless they were [removed](Self::unsubscribe) within
    /// [`REMOVALS_KEPT`](super::REMOVALS_KEPT). A removal counts whether or not the subscriber existed.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. Restoring again is safe.
    async fn restore_subscriptions(
        &self,
        declared: &[(Name, Name)],
    ) -> Result<Restored<(Name, Name)>, BrokerError>;
}

/// A subscriber of an event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Subscription {
    /// The event that the subscriber receives.
    pub event: Name,
    /// The subscriber's name, unique for the event.
    pub name: Name,
    /// When it was added. It receives events published from then on.
    pub since: Timestamp,
}

impl Subscription {
    /// A subscriber of `event`, added at `since`.
    pub fn new(event: Name, name: Name, since: Timestamp) -> Self {
        Self { event, name, since }
    }
}

/// A subscriber name that could be mapped to the queue of another subscriber.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid subscriber name `{subscriber}` for event `{event}`: expected at least one character, no `@` and no \
     control characters, because its queue is named `subscriber@event`"
)]
pub struct InvalidSubscriber {
    /// The event of the subscription.
    pub event: Name,
    /// The rejected name.
    pub subscriber: Name,
}

crate::debug_as_text!(InvalidSubscriber);

impl Subscription {
    /// The queue of this subscriber: its name, `@` and the event.
    pub fn queue(&self) -> Name {
        Self::queue_of(&self.event, &self.name)
    }

    /// Checks that a subscriber's queue cannot be that of another one: the name ends at the first `@`, so it must not
    /// contain one.
    ///
    /// # Errors
    ///
    /// When the name is empty, or contains `@` or a control character.
    pub fn check(event: &Name, subscriber: &Name) -> Result<(), InvalidSubscriber> {
        if subscriber.is_empty() || subscriber.contains(|c: char| c == '@' || c.is_control()) {
            return Err(InvalidSubscriber {
                event: event.clone(),
                subscriber: subscriber.clone(),
            });
        }
        Ok(())
    }

    /// The queue of a subscriber. No two [valid](Self::check) names have the same queue.
    pub fn queue_of(event: &str, subscriber: &str) -> Name {
        format!("{subscriber}@{event}").into()
    }
}
