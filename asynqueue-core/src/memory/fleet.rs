//! Servers and subscribers.

use std::time::Duration;

use async_trait::async_trait;

use super::MemoryBroker;
use crate::{
    broker::{BrokerError, Fleet, ServerInfo, Subscription, Subscriptions},
    task::Name,
};

#[async_trait]
impl Fleet for MemoryBroker {
    async fn beat(&self, server: ServerInfo, ttl: Duration) -> Result<(), BrokerError> {
        self.open()?;
        let until = self.clock_now() + ttl;
        let mut servers = self.0.servers.lock();
        servers.insert(server.name.clone(), (server, until));
        Ok(())
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
        servers.retain(|_, (_, until)| *until > now);
        Ok(servers.values().map(|(server, _)| server.clone()).collect())
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
