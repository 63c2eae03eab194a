//! Servers and subscribers: one HASH for each, in slots of their own.

use std::{
    collections::HashSet,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use asynqueue_core::{
    Broker, BrokerError, Fleet, Name, QuietRequest, Restored, ServerInfo, StateMark, Subscription,
    Subscriptions, Timestamp,
};
use redis::Value;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    RedisBroker,
    subscribers::{Known, Subscriber},
};
use crate::{keys, reply, script};

/// Ends the field of what is requested of a server, beside that of the server: one step on the hash sees both.
const REQUEST: &str = "\u{1}quiet";

/// How often one of all servers looks for those that are silent for good.
const FORGET_SILENT: Duration = Duration::from_secs(60);

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
        let servers = &*self.servers_key();
        let args = script::beat::Args {
            not_after: self.script_clock(),
            name: server.name.as_str(),
            server: encode(&(self.now() + ttl, &server))?,
            request: request_of(&server.name),
        };
        let call = script::beat::call(script::beat::Keys { servers }, args);
        let mut answer = reply::array(call.send(self.link()).await?)?.into_iter();
        let servers = reply::number(reply::next(&mut answer)?)?;
        self.0.keeper.fleet.store(servers as usize, Relaxed);
        self.forget_silent_now_and_then().await;
        // Nothing stands at the end of an answer where nothing is requested.
        let requested = answer.next().map(reply::some_bytes).transpose()?.flatten();
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
        let (hash, not_after) = (&*self.servers_key(), self.script_clock());
        let args = script::remove::Args { not_after };
        let mut call = script::remove::call(script::remove::Keys { hash }, args);
        for field in [server.as_str(), &request_of(server)] {
            call.row(script::remove::Field { field });
        }
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
            self.forget_as_seen(&key, silent).await?;
        }
        servers.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(servers)
    }
}

/// The field of what is requested of a server.
fn request_of(server: &Name) -> String {
    format!("{server}{REQUEST}")
}

#[async_trait]
impl Subscriptions for RedisBroker {
    async fn subscribe(&self, subscribers: Vec<(Name, Name)>) -> Result<(), BrokerError> {
        self.link().open_or_closed()?;
        if subscribers.is_empty() {
            return Ok(());
        }
        let since = self.now();
        let events = subscribers.iter().map(|(event, _)| event);
        let subscribe = |known: &mut Known| {
            for (event, name) in &subscribers {
                if !known.has(event, name) {
                    known.add(event, name, since);
                }
            }
        };
        self.change_subscribers(events, subscribe).await.map(drop)
    }

    async fn unsubscribe(&self, subscribers: &[(Name, Name)]) -> Result<Vec<bool>, BrokerError> {
        self.link().open_or_closed()?;
        if subscribers.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.now();
        let events = subscribers.iter().map(|(event, _)| event);
        let remove = |known: &mut Known| {
            let subscribers = subscribers.iter();
            subscribers
                .map(|(event, name)| known.remove(event, name, now))
                .collect()
        };
        let (_, removed) = self.change_subscribers(events, remove).await?;
        Ok(removed)
    }

    async fn subscriptions_mark(&self) -> Result<StateMark, BrokerError> {
        self.link().open_or_closed()?;
        self.mark_of_subscriptions().await
    }

    async fn restore_subscriptions(
        &self,
        declared: &[(Name, Name)],
    ) -> Result<Restored<(Name, Name)>, BrokerError> {
        self.link().open_or_closed()?;
        let since = self.now();
        let restore = |known: &mut Known| {
            let mut found = Restored::default();
            for subscriber @ (event, name) in declared {
                if known.has(event, name) {
                    continue;
                }
                if known.was_removed(event, name) {
                    found.removed.push(subscriber.clone());
                } else {
                    known.add(event, name, since);
                    found.restored.push(subscriber.clone());
                }
            }
            found
        };
        let events = declared.iter().map(|(event, _)| event);
        let (mark, found) = self.change_subscribers(events, restore).await?;
        Ok(Restored { mark, ..found })
    }

    async fn subscribers(&self, event: &Name) -> Result<Vec<Subscription>, BrokerError> {
        self.link().open_or_closed()?;
        let mut command = redis::cmd("HGET");
        command.arg(self.subscriptions_key()).arg(event.as_str());
        let bytes = reply::some_bytes(self.command(&command).await?)?;
        let known = bytes.map(|bytes| decode(&bytes)).transpose()?;
        Ok(subscriptions(event, known.unwrap_or_default()))
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
    /// Forgets servers that are silent for good, in one process at a time: nobody may be looking at them.
    async fn forget_silent_now_and_then(&self) {
        {
            let mut last = self.0.keeper.silent_forgotten.lock();
            if last.is_some_and(|last| last.elapsed() < FORGET_SILENT) {
                return;
            }
            *last = Some(Instant::now());
        }
        let mut first = redis::cmd("SET");
        first
            .arg(keys::servers_seen(&self.0.prefix))
            .arg("")
            .arg("NX")
            .arg("PX")
            .arg(FORGET_SILENT.as_millis() as u64);
        let forgotten = async {
            match self.command(&first).await? {
                Value::Nil => Ok(()),
                _ => self.servers().await.map(drop),
            }
        };
        if let Err(error) = forgotten.await {
            let error: BrokerError = error;
            tracing::debug!(%error, "servers that are silent were not forgotten");
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
        let lane = self.0.changes.next();
        let args = script::swap::Args {
            not_after: self.script_clock(),
            lane: lane.name(),
            number: lane.number(),
            field,
            seen_value: seen,
            new,
        };
        let keys = script::swap::Keys {
            hash: key,
            lanes: &lanes,
        };
        let call = script::swap::call(keys, args);
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
