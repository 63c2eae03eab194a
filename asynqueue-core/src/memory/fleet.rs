//! Servers and subscribers.

use std::time::Duration;

use async_trait::async_trait;

use super::{KnownServer, MemoryBroker};
use crate::{
    broker::{BrokerError, Fleet, QuietRequest, ServerInfo, Subscription, Subscriptions},
    task::Name,
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

#[async_trait]
impl Subscriptions for MemoryBroker {
    async fn subscribe(&self, subscribers: Vec<(Name, Name)>) -> Result<(), BrokerError> {
        self.open()?;
        let now = self.clock_now();
        let mut known = self.0.subscriptions.lock();
        for subscriber in subscribers {
            known.entry(subscriber).or_insert(now);
        }
        Ok(())
    }

    async fn unsubscribe(&self, subscribers: &[(Name, Name)]) -> Result<Vec<bool>, BrokerError> {
        self.open()?;
        let mut known = self.0.subscriptions.lock();
        let removed = subscribers
            .iter()
            .map(|subscriber| known.remove(subscriber).is_some());
        Ok(removed.collect())
    }

    async fn subscribers(&self, event: &Name) -> Result<Vec<Subscription>, BrokerError> {
        let mut all = self.subscriptions().await?;
        all.retain(|subscription| subscription.event == *event);
        Ok(all)
    }

    async fn subscriptions(&self) -> Result<Vec<Subscription>, BrokerError> {
        self.open()?;
        let known = self.0.subscriptions.lock();
        let all = known.iter().map(|((event, name), since)| Subscription {
            event: event.clone(),
            name: name.clone(),
            since: *since,
        });
        Ok(all.collect())
    }
}
