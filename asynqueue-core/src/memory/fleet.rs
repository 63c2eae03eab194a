//! Servers and subscribers.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;

use super::{KnownServer, MemoryBroker, declared::Removals};
use crate::{
    broker::{
        BrokerError, Fleet, QuietRequest, Restored, ServerInfo, StateMark, Subscription,
        Subscriptions,
    },
    task::{Name, Timestamp},
};

#[async_trait]
impl Fleet for MemoryBroker {
    async fn beat(
        &self,
        server: ServerInfo,
        ttl: Duration,
    ) -> Result<Option<QuietRequest>, BrokerError> {
        self.open()?;
        let until = self.clock_now() + ttl;
        let mut servers = self.0.servers.lock();
        let requested = servers.get(&server.name).and_then(|known| known.requested);
        let known = KnownServer {
            until,
            requested,
            info: server,
        };
        servers.insert(known.info.name.clone(), known);
        Ok(requested)
    }

    async fn request_quiet(&self, server: &Name, quiet: bool) -> Result<bool, BrokerError> {
        self.open()?;
        let now = self.clock_now();
        let mut servers = self.0.servers.lock();
        let known = servers.get_mut(server).filter(|known| known.until > now);
        Ok(known.is_some_and(|known| {
            known.requested = Some(QuietRequest::after(known.requested, quiet, now));
            true
        }))
    }

    async fn leave(&self, server: &Name) -> Result<(), BrokerError> {
        self.open()?;
        self.0.servers.lock().remove(server);
        Ok(())
    }

    async fn servers(&self) -> Result<Vec<ServerInfo>, BrokerError> {
        self.open()?;
        let now = self.clock_now();
        let mut servers = self.0.servers.lock();
        servers.retain(|_, known| known.until > now);
        Ok(servers.values().map(|known| known.info.clone()).collect())
    }
}

/// The subscribers by event and name, and since when each is there.
#[derive(Debug, Default)]
pub(super) struct SubscriptionTable {
    known: BTreeMap<(Name, Name), Timestamp>,
    removals: Removals<(Name, Name)>,
}

#[async_trait]
impl Subscriptions for MemoryBroker {
    async fn subscribe(&self, subscribers: Vec<(Name, Name)>) -> Result<(), BrokerError> {
        self.open()?;
        let now = self.clock_now();
        let table = &mut *self.0.subscriptions.lock();
        for subscriber in subscribers {
            if !table.known.contains_key(&subscriber) {
                table.removals.added(&subscriber);
                table.known.insert(subscriber, now);
            }
        }
        Ok(())
    }

    async fn unsubscribe(&self, subscribers: &[(Name, Name)]) -> Result<Vec<bool>, BrokerError> {
        self.open()?;
        let now = self.clock_now();
        let table = &mut *self.0.subscriptions.lock();
        let removed = subscribers.iter().map(|subscriber| {
            table.removals.removed(subscriber.clone(), now);
            table.known.remove(subscriber).is_some()
        });
        Ok(removed.collect())
    }

    async fn subscribers(&self, event: &Name) -> Result<Vec<Subscription>, BrokerError> {
        let mut all = self.subscriptions().await?;
        all.retain(|subscription| subscription.event == *event);
        Ok(all)
    }

    async fn subscriptions(&self) -> Result<Vec<Subscription>, BrokerError> {
        self.open()?;
        let table = self.0.subscriptions.lock();
        let all = (table.known.iter()).map(|((event, name), since)| Subscription {
            event: event.clone(),
            name: name.clone(),
            since: *since,
        });
        Ok(all.collect())
    }

    async fn subscriptions_mark(&self) -> Result<StateMark, BrokerError> {
        self.open()?;
        Ok(self.0.subscriptions.lock().removals.mark)
    }

    async fn restore_subscriptions(
        &self,
        declared: &[(Name, Name)],
    ) -> Result<Restored<(Name, Name)>, BrokerError> {
        self.open()?;
        let now = self.clock_now();
        let table = &mut *self.0.subscriptions.lock();
        let mut found = Restored::default();
        for subscriber in declared {
            if table.known.contains_key(subscriber) {
                continue;
            }
            if table.removals.has(subscriber, now) {
                found.removed.push(subscriber.clone());
            } else {
                table.removals.added(subscriber);
                table.known.insert(subscriber.clone(), now);
                found.restored.push(subscriber.clone());
            }
        }
        found.mark = table.removals.mark;
        Ok(found)
    }
}
