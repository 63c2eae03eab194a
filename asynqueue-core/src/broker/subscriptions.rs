//! Who subscribes to which events.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{BrokerError, Restored, StateMark};
use crate::task::{Name, Timestamp};

/// Knows the subscribers of each event. A subscriber stays until it is removed, whether or not a server works for it: so it
/// misses nothing that is published meanwhile.
#[async_trait]
pub trait Subscriptions: Send + Sync {
    /// Adds subscribers, each given as event and name, which servers [check](Subscription::check) beforehand. One that is there
    /// already stays as it is, since when it was added. That one was removed before is forgotten.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. Subscribing again is safe.
    async fn subscribe(&self, subscribers: Vec<(Name, Name)>) -> Result<(), BrokerError>;

    /// Removes subscribers, each given as event and name. Tells for each whether it was there. What it has been sent stays
    /// in its queue.
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

    /// Names the present state of all subscriptions, at a small cost that does not grow with their number.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn subscriptions_mark(&self) -> Result<StateMark, BrokerError>;

    /// Adds those of the subscribers that are missing, unless they were [removed](Self::unsubscribe) within
    /// [`REMOVALS_KEPT`](super::REMOVALS_KEPT). A removal counts whether or not the subscriber was there.
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
    /// The event.
    pub event: Name,
    /// The subscriber's name.
    pub name: Name,
    /// Since when it is there: it gets what is published from then on.
    pub since: Timestamp,
}

impl Subscription {
    /// A subscriber of an event since then.
    pub fn new(event: Name, name: Name, since: Timestamp) -> Self {
        Self { event, name, since }
    }
}

/// A subscriber's name that could give it the queue of another.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid subscriber `{subscriber}` of `{event}`: its queue is named `subscriber@event`, so its name has at least one \
     character, no `@` and no control characters"
)]
pub struct InvalidSubscriber {
    /// The event.
    pub event: Name,
    /// The name as given.
    pub subscriber: Name,
}

crate::debug_as_text!(InvalidSubscriber);

impl Subscription {
    /// The queue of the subscriber's own: its name, an `@` and the event.
    pub fn queue(&self) -> Name {
        Self::queue_of(&self.event, &self.name)
    }

    /// Checks that a subscriber's queue is of no other subscriber: the name ends at the first `@`, so it has none itself.
    ///
    /// # Errors
    ///
    /// When the name is empty, or has an `@` or a control character.
    pub fn check(event: &Name, subscriber: &Name) -> Result<(), InvalidSubscriber> {
        if subscriber.is_empty() || subscriber.contains(|c: char| c == '@' || c.is_control()) {
            return Err(InvalidSubscriber {
                event: event.clone(),
                subscriber: subscriber.clone(),
            });
        }
        Ok(())
    }

    /// The queue of a subscriber. Of names that [may subscribe](Self::check), no two have the same.
    pub fn queue_of(event: &str, subscriber: &str) -> Name {
        format!("{subscriber}@{event}").into()
    }
}
