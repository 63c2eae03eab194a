//! Servers and subscribers: one HASH for each, in slots of their own.

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use asynqueue_core::{
    Broker, BrokerError, Fleet, Name, QuietRequest, ServerInfo, Subscription, Subscriptions,
    Timestamp,
};
use redis::Value;
use serde::{Serialize, de::DeserializeOwned};

use super::RedisBroker;
use crate::{keys, reply, script};

/// Ends the field of what is requested of a server, beside that of the server: one step on the hash sees both.
const REQUEST: &str = "\u{1}quiet";

/// A server as it is kept, and until when it is heard of.
type Heard = (Timestamp, ServerInfo);

#[async_trait]
impl Fleet for RedisBroker {
    async fn beat(
        &self,
        server: ServerInfo,
        ttl: Duration,
    ) -> Result<Option<QuietRequest>, BrokerError> {
        self.link().open_or_closed()?;
        let key = self.servers_key();
        let mut call = script::BEAT.call(&[&key]);
        call.arg(self.script_clock())
            .arg(server.name.as_str())
            .arg(encode(&(self.now() + ttl, &server))?)
            .arg(request_of(&server.name));
        let requested = reply::some_bytes(call.send(self.link()).await?)?;
        Ok(requested.and_then(|bytes| decode(&bytes).ok()))
    }

    async fn request_quiet(&self, server: &Name, quiet: bool) -> Result<bool, BrokerError> {
        self.link().open_or_closed()?;
        let (key, field) = (self.servers_key(), request_of(server));
        let mut look = redis::cmd("HMGET");
        look.arg(&key).arg(server.as_str()).arg(&field);
        // Again if another request comes in between.
        loop {
            let mut seen = reply::array(self.command(&look).await?)?.into_iter();
            let known = reply::some_bytes(reply::next(&mut seen)?)?;
            let before = reply::some_bytes(reply::next(&mut seen)?)?.unwrap_or_default();
            let now = self.now();
            // What a later version has written of a server says that it is there, if no more.
            let is_silent =
                |bytes: &[u8]| decode::<Heard>(bytes).is_ok_and(|(until, _)| until <= now);
            if known.is_none_or(|bytes| is_silent(&bytes)) {
                return Ok(false);
            }
            let request = QuietRequest::after(decode(&before).ok(), quiet, now);
            if self.swap(&key, &field, &before, &encode(&request)?).await? {
                return Ok(true);
            }
        }
    }

    async fn leave(&self, server: &Name) -> Result<(), BrokerError> {
        self.link().open_or_closed()?;
        let key = self.servers_key();
        let mut call = script::REMOVE.call(&[&key]);
        call.arg(self.script_clock())
            .arg(server.as_str())
            .arg(request_of(server));
        call.send(self.link()).await.map(drop)
    }

    async fn servers(&self) -> Result<Vec<ServerInfo>, BrokerError> {
        self.link().open_or_closed()?;
        let (key, now) = (self.servers_key(), self.now());
        let (mut servers, mut silent) = (Vec::new(), Vec::new());
        let fields = self.hash(&key).await?.into_iter();
        let (mut requests, fields): (Vec<_>, Vec<_>) =
            fields.partition(|(field, _)| field.ends_with(REQUEST));
        let mut kept = HashSet::new();
        for (name, bytes) in fields {
            match decode::<Heard>(&bytes) {
                Ok((until, _)) if until <= now => silent.push((name, bytes)),
                Ok((_, server)) => {
                    kept.insert(name);
                    servers.push(server);
                }
                // What a later version has written is for others to read.
                Err(_) => {
                    kept.insert(name);
                }
            }
        }
        // One that was made while its server left, too.
        requests.retain(|(field, _)| {
            let name = field.strip_suffix(REQUEST);
            name.is_some_and(|name| !kept.contains(name))
        });
        silent.append(&mut requests);
        if !silent.is_empty() {
            let mut call = script::FORGET.call(&[&key]);
            call.arg(silent);
            call.send(self.link()).await?;
        }
        servers.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(servers)
    }
}

/// The field of what is requested of a server.
fn request_of(server: &Name) -> String {
    format!("{server}{REQUEST}")
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
            if self.swap(&key, event.as_str(), &seen, &new).await? {
                return Ok(answer);
            }
        }
    }

    /// Puts a field of a hash in place of what it was seen as, where none and removed are empty. Returns whether it was done.
    async fn swap(
        &self,
        key: &str,
        field: &str,
        seen: &[u8],
        new: &[u8],
    ) -> Result<bool, BrokerError> {
        let lanes = keys::lanes_beside(&self.0.prefix, key);
        let mut call = script::SWAP.call(&[key, &lanes]);
        let lane = self.0.changes.next();
        call.arg(self.script_clock())
            .arg(lane.name())
            .arg(lane.number());
        call.arg(field).arg(seen).arg(new);
        let answer = reply::text(call.send(self.link()).await?)?;
        lane.answered();
        Ok(answer == "y")
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
