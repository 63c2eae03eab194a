//! Servers and subscribers: one HASH for each, in slots of their own.

use std::time::Duration;

use async_trait::async_trait;
use asynqueue_core::{
    Broker, BrokerError, Fleet, Name, ServerInfo, Subscription, Subscriptions, Timestamp,
};
use redis::Value;
use serde::{Serialize, de::DeserializeOwned};

use super::RedisBroker;
use crate::{keys, reply, script};

/// A server as it is kept, and until when it is heard of.
type Heard = (Timestamp, ServerInfo);

#[async_trait]
impl Fleet for RedisBroker {
    async fn beat(&self, server: ServerInfo, ttl: Duration) -> Result<(), BrokerError> {
        self.link().open_or_closed()?;
        let mut command = redis::cmd("HSET");
        command
            .arg(self.servers_key())
            .arg(server.name.as_str())
            .arg(encode(&(self.now() + ttl, &server))?);
        self.command(&command).await.map(drop)
    }

    async fn leave(&self, server: &Name) -> Result<(), BrokerError> {
        self.link().open_or_closed()?;
        let mut command = redis::cmd("HDEL");
        command.arg(self.servers_key()).arg(server.as_str());
        self.command(&command).await.map(drop)
    }

    async fn servers(&self) -> Result<Vec<ServerInfo>, BrokerError> {
        self.link().open_or_closed()?;
        let (key, now) = (self.servers_key(), self.now());
        let (mut servers, mut silent) = (Vec::new(), Vec::new());
        for (name, bytes) in self.hash(&key).await? {
            // What a later version has written is for others to read.
            let Ok((until, server)) = decode::<Heard>(&bytes) else {
                continue;
            };
            if until > now {
                servers.push(server);
            } else {
                silent.push((name, bytes));
            }
        }
        if !silent.is_empty() {
            let mut call = script::FORGET.call(&[&key]);
            call.arg(silent);
            call.send(self.link()).await?;
        }
        servers.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(servers)
    }
}

/// Name and since when.
type Subscriber = (Name, Timestamp);

#[async_trait]
impl Subscriptions for RedisBroker {
    async fn subscribe(&self, subscribers: Vec<(Name, Name)>) -> Result<(), BrokerError> {
        self.link().open_or_closed()?;
        for (event, name) in subscribers {
            let since = self.now();
            self.change_subscribers(&event, |known| {
                let is_known = known.iter().any(|(other, _)| *other == name);
                if !is_known {
                    known.push((name.clone(), since));
                    known.sort_unstable();
                }
            })
            .await?;
        }
        Ok(())
    }

    async fn unsubscribe(&self, subscribers: &[(Name, Name)]) -> Result<Vec<bool>, BrokerError> {
        self.link().open_or_closed()?;
        let mut removed = Vec::with_capacity(subscribers.len());
        for (event, name) in subscribers {
            let remove = |known: &mut Vec<Subscriber>| {
                let before = known.len();
                known.retain(|(other, _)| other != name);
                before > known.len()
            };
            removed.push(self.change_subscribers(event, remove).await?);
        }
        Ok(removed)
    }

    async fn subscribers(&self, event: &Name) -> Result<Vec<Subscription>, BrokerError> {
        self.link().open_or_closed()?;
        let (_, known) = self.seen_subscribers(event).await?;
        Ok(subscriptions(event, known))
    }

    async fn subscriptions(&self) -> Result<Vec<Subscription>, BrokerError> {
        self.link().open_or_closed()?;
        let mut all = Vec::new();
        for (event, bytes) in self.hash(&self.subscriptions_key()).await? {
            all.extend(subscriptions(&Name::from(event), decode(&bytes)?));
        }
        all.sort_unstable();
        Ok(all)
    }
}

impl RedisBroker {
    /// The subscribers of an event, as they are kept too.
    async fn seen_subscribers(
        &self,
        event: &Name,
    ) -> Result<(Vec<u8>, Vec<Subscriber>), BrokerError> {
        let mut command = redis::cmd("HGET");
        command.arg(self.subscriptions_key()).arg(event.as_str());
        match reply::some_bytes(self.command(&command).await?)? {
            None => Ok((Vec::new(), Vec::new())),
            Some(bytes) => {
                let known = decode(&bytes)?;
                Ok((bytes, known))
            }
        }
    }

    /// Changes the subscribers of an event, again if another changes them in between.
    async fn change_subscribers<R>(
        &self,
        event: &Name,
        mut change: impl FnMut(&mut Vec<Subscriber>) -> R + Send,
    ) -> Result<R, BrokerError>
    where
        R: Send,
    {
        loop {
            let (seen, mut known) = self.seen_subscribers(event).await?;
            let before = known.clone();
            let answer = change(&mut known);
            if known == before {
                return Ok(answer);
            }
            let new = if known.is_empty() {
                Vec::new()
            } else {
                encode(&known)?
            };
            let key = self.subscriptions_key();
            let mut call = script::SWAP.call(&[&key]);
            call.arg(event.as_str()).arg(seen).arg(new);
            if call.send(self.link()).await? == Value::Int(1) {
                return Ok(answer);
            }
        }
    }

    /// All fields of a hash.
    pub(super) async fn hash(&self, key: &str) -> Result<Vec<(String, Vec<u8>)>, BrokerError> {
        let mut command = redis::cmd("HGETALL");
        command.arg(key);
        let pairs: Vec<(Value, Value)> = match self.command(&command).await? {
            Value::Map(pairs) => pairs,
            other => {
                let mut parts = reply::array(other)?.into_iter();
                std::iter::from_fn(|| Some((parts.next()?, parts.next()?))).collect()
            }
        };
        let pairs = pairs.into_iter();
        pairs
            .map(|(field, value)| Ok((reply::text(field)?, reply::bytes(value)?)))
            .collect()
    }

    fn servers_key(&self) -> String {
        keys::servers(&self.0.prefix)
    }

    fn subscriptions_key(&self) -> String {
        keys::subscriptions(&self.0.prefix)
    }
}

fn subscriptions(event: &Name, known: Vec<Subscriber>) -> Vec<Subscription> {
    let subscription = |(name, since)| Subscription {
        event: event.clone(),
        name,
        since,
    };
    known.into_iter().map(subscription).collect()
}

/// MessagePack, structs as maps.
pub(super) fn encode(value: &impl Serialize) -> Result<Vec<u8>, BrokerError> {
    rmp_serde::to_vec_named(value).map_err(|error| BrokerError::Protocol(error.to_string()))
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BrokerError> {
    rmp_serde::from_slice(bytes).map_err(|error| BrokerError::Protocol(error.to_string()))
}
