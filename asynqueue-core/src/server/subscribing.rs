//! Subscribers that code declares: they are made known at the start, and put back if the broker loses them.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{Shared, is_closed, retrying::Retrying};
use crate::{
    broker::{BrokerError, StateMark},
    metrics,
    task::Name,
};

/// How often to see whether the broker has lost any.
const CHECK: Duration = Duration::from_millis(800);

/// The subscribers that a server puts back: not those that were removed on demand.
struct Declared {
    subscribers: Vec<(Name, Name)>,
    /// The state in which none of them was missing.
    seen: Option<StateMark>,
}

impl Shared {
    /// Makes sure that the subscribers are known, though the broker may be away at first, and stay known though it may lose
    /// them. One that is removed on demand while the server runs stays removed.
    pub(super) async fn keep_subscribed(self: Arc<Self>) {
        let mut retrying = Retrying::new("subscribe");
        while !self.subscribed.load(Ordering::SeqCst)
            && let Err(error) = self.subscribe().await
        {
            if is_closed(&error) || !self.runs_after(retrying.failed(&error)).await {
                return;
            }
        }
        retrying.worked();
        let mut declared = Declared {
            subscribers: self.subscribers.clone(),
            seen: None,
        };
        let mut wait = Duration::ZERO;
        while !declared.subscribers.is_empty() && self.runs_after(wait).await {
            wait = match self.restore_subscribers(&mut declared).await {
                Ok(()) => {
                    retrying.worked();
                    CHECK
                }
                Err(error) if is_closed(&error) => return,
                Err(error) => retrying.failed(&error),
            };
        }
    }

    /// Registers the subscribers with the broker.
    pub(super) async fn subscribe(&self) -> Result<(), BrokerError> {
        if !self.subscribers.is_empty() {
            self.broker.subscribe(self.subscribers.clone()).await?;
        }
        self.subscribed.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Puts back what the broker has lost since the last look.
    async fn restore_subscribers(&self, declared: &mut Declared) -> Result<(), BrokerError> {
        if declared.seen == Some(self.broker.subscriptions_mark().await?) {
            return Ok(());
        }
        let subscribers = &mut declared.subscribers;
        let found = self.broker.restore_subscriptions(subscribers).await?;
        // Even if the broker forgets that it was removed, as when it loses all.
        subscribers.retain(|subscriber| !found.removed.contains(subscriber));
        declared.seen = Some(found.mark);
        if !found.restored.is_empty() {
            let restored = found.restored.iter();
            let restored: Vec<_> = restored
                .map(|(event, name)| format!("{name} of {event}"))
                .collect();
            tracing::warn!(subscribers = ?restored, "subscribers were missing and are put back: the broker has lost data; \
                what was published meanwhile did not reach them");
            metrics::restored("subscription", restored.len());
        }
        Ok(())
    }
}
