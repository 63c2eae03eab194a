//! Subscribers declared in code: registered at the start, and restored if the broker loses them.

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

/// How often to check whether the broker has lost any.
const CHECK: Duration = Duration::from_millis(800);

/// The subscribers that this server restores. Subscribers that were removed on request are not restored.
struct Declared {
    subscribers: Vec<(Name, Name)>,
    /// The state of the broker at which none was missing.
    seen: Option<StateMark>,
}

impl Shared {
    /// Keeps the subscribers registered, even if the broker is unreachable at the start or loses them later. A
    /// subscriber that is removed on request while the server runs stays removed.
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

    /// Restores the subscribers lost since the last check.
    async fn restore_subscribers(&self, declared: &mut Declared) -> Result<(), BrokerError> {
        if declared.seen == Some(self.broker.subscriptions_mark().await?) {
            return Ok(());
        }
        let subscribers = &mut declared.subscribers;
        let found = self.broker.restore_subscriptions(subscribers).await?;
        // They stay removed even if the broker loses the record of the removal together with all else.
        subscribers.retain(|subscriber| !found.removed.contains(subscriber));
        declared.seen = Some(found.mark);
        if !found.restored.is_empty() {
            let restored = found.restored.iter();
            let restored: Vec<_> = restored
                .map(|(event, name)| format!("{name} of {event}"))
                .collect();
            tracing::warn!(subscribers = ?restored, "the broker has lost data; missing subscribers are restored, but did not receive \
                tasks published in between");
            metrics::restored("subscription", restored.len());
        }
        Ok(())
    }
}
