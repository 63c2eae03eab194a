//! Subscriptions: one connection for all listeners.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::future::try_join_all;
use parking_lot::Mutex;
use redis::{PushInfo, PushKind, RedisResult, Value};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use super::{connection::Connection, error::is_unusable, io, target::Target};

/// How often to check that the connection is alive.
const CHECK: Duration = Duration::from_secs(5);

/// A message of a channel.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) channel: String,
    pub(crate) payload: Vec<u8>,
}

/// Listeners. Clones share one connection.
#[derive(Clone)]
pub(super) struct Listeners(Arc<Inner>);

struct Inner {
    target: Arc<Target>,
    is_sharded: bool,
    current: tokio::sync::Mutex<Option<Subscriber>>,
    channels: Mutex<Weak<Mutex<Channels>>>,
}

/// A connection for subscriptions, and the listeners of its messages.
struct Subscriber {
    connection: Connection,
    channels: Arc<Mutex<Channels>>,
}

#[derive(Default)]
struct Channels {
    listeners: HashMap<String, Vec<UnboundedSender<Message>>>,
    /// Channels that are being unsubscribed from, with the number of pending confirmations.
    leaving: HashMap<String, usize>,
    /// The connection is lost: listeners must subscribe again.
    is_over: bool,
    /// Drops the connection when it ends: a message that reaches it would count as received.
    over: CancellationToken,
}

impl Listeners {
    pub(super) fn new(target: Arc<Target>, is_sharded: bool) -> Self {
        Self(Arc::new(Inner {
            target,
            is_sharded,
            current: Default::default(),
            channels: Default::default(),
        }))
    }

    /// Subscribes. If the caller drops this future, subscribing continues, so that other subscriptions stay and a later
    /// try does not start over.
    pub(super) async fn listen(
        &self,
        channels: Vec<String>,
    ) -> RedisResult<UnboundedReceiver<Message>> {
        let (sender, messages) = unbounded_channel();
        let this = self.clone();
        io::run(async move { this.subscribe(&channels, sender).await }).await??;
        Ok(messages)
    }

    async fn subscribe(
        &self,
        channels: &[String],
        sender: UnboundedSender<Message>,
    ) -> RedisResult<()> {
        // Locked during the calls: subscribing and unsubscribing must not interfere.
        let mut current = self.0.current.lock().await;
        let is_good = |subscriber: &Subscriber| !subscriber.channels.lock().is_over;
        let subscriber = match current.take().filter(is_good) {
            Some(subscriber) => subscriber,
            None => Box::pin(self.subscriber()).await?,
        };
        // Before subscribing, so that the first message finds its listener.
        let new = subscriber.channels.lock().add(channels, &sender);
        drop(sender);
        let subscribed = subscriber.subscribe(&new, self.0.is_sharded).await;
        let is_lost = |error| is_unusable(error);
        if subscribed.as_ref().is_err_and(is_lost) {
            return subscribed;
        }
        if subscribed.is_err() {
            // These channels were refused; earlier ones stay.
            subscriber.channels.lock().forget(&new);
        }
        // These channels stay, even without listeners: a caller that gave up waiting tries again.
        subscriber.tidy(self.0.is_sharded, channels).await?;
        *current = Some(subscriber);
        subscribed
    }

    async fn subscriber(&self) -> RedisResult<Subscriber> {
        let channels = Arc::new(Mutex::new(Channels::default()));
        let receiving = Arc::clone(&channels);
        // Runs where the connection is read, so that a message wakes only its listener.
        let on_push = move |pushed| receiving.lock().take(pushed);
        let connection = self.0.target.connect_to_listen(on_push).await?;
        *self.0.channels.lock() = Arc::downgrade(&channels);
        let over = channels.lock().over.clone();
        let checking = check(connection.clone(), Arc::downgrade(&channels));
        io::spawn(async move { over.run_until_cancelled_owned(checking).await })?;
        Ok(Subscriber {
            connection,
            channels,
        })
    }

    /// Unsubscribes from channels without listeners.
    pub(super) async fn tidy(&self) -> RedisResult<()> {
        let this = self.clone();
        let tidying = async move {
            let mut current = this.0.current.lock().await;
            if let Some(subscriber) = current.take() {
                subscriber.tidy(this.0.is_sharded, &[]).await?;
                *current = Some(subscriber);
            }
            Ok(())
        };
        io::run(tidying).await?
    }

    /// Sends a message to the listeners of this process, without Redis.
    pub(super) fn notify_local(&self, message: &Message) {
        if let Some(channels) = self.0.channels.lock().upgrade() {
            channels.lock().pass(message);
        }
    }

    /// Ends all message streams and the connection.
    pub(super) fn close(&self) {
        if let Some(channels) = self.0.channels.lock().upgrade() {
            channels.lock().end();
        }
        let this = self.clone();
        // If the thread cannot be started, there is no connection either.
        let _ = io::spawn(async move { drop(this.0.current.lock().await.take()) });
    }
}

impl Subscriber {
    async fn subscribe(&self, channels: &[String], is_sharded: bool) -> RedisResult<()> {
        if channels.is_empty() {
            return Ok(());
        }
        match self.connection.clone() {
            Connection::Node(mut node) => node.subscribe(channels).await,
            Connection::Cluster(cluster) if is_sharded => {
                // One call is limited to one slot. The calls run concurrently.
                let each = by_slot(channels).into_iter().map(|channels| {
                    let mut cluster = cluster.clone();
                    async move { cluster.ssubscribe(channels).await }
                });
                try_join_all(each).await.map(drop)
            }
            Connection::Cluster(mut cluster) => cluster.subscribe(channels).await,
        }
    }

    /// Unsubscribes from channels without listeners, except `kept`. A failure drops the connection.
    async fn tidy(&self, is_sharded: bool, kept: &[String]) -> RedisResult<()> {
        let gone = self.channels.lock().leave(kept);
        if gone.is_empty() {
            return Ok(());
        }
        match self.connection.clone() {
            Connection::Node(mut node) => node.unsubscribe(gone).await,
            Connection::Cluster(cluster) if is_sharded => {
                let each = by_slot(&gone).into_iter().map(|channels| {
                    let mut cluster = cluster.clone();
                    async move { cluster.sunsubscribe(channels).await }
                });
                try_join_all(each).await.map(drop)
            }
            Connection::Cluster(mut cluster) => cluster.unsubscribe(gone).await,
        }
    }
}

/// Groups channels that are certain to be in the same slot because they share a hash tag.
fn by_slot(channels: &[String]) -> Vec<Vec<&String>> {
    let mut slots: HashMap<&str, Vec<&String>> = HashMap::new();
    for channel in channels {
        let tag = channel
            .split_once('{')
            .and_then(|(_, rest)| rest.split_once('}'));
        let slot = tag.map_or(channel.as_str(), |(tag, _)| tag);
        slots.entry(slot).or_default().push(channel);
    }
    slots.into_values().collect()
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.channels.lock().end();
    }
}

impl Channels {
    /// Adds a listener. Returns the channels to subscribe to.
    fn add(&mut self, channels: &[String], listener: &UnboundedSender<Message>) -> Vec<String> {
        let mut new = Vec::new();
        for channel in channels {
            let listeners = self.listeners.entry(channel.clone()).or_insert_with(|| {
                new.push(channel.clone());
                Vec::new()
            });
            listeners.push(listener.clone());
        }
        new
    }

    /// Removes channels without listeners, except `kept`. Returns them, to unsubscribe from.
    fn leave(&mut self, kept: &[String]) -> Vec<String> {
        let kept: HashSet<_> = kept.iter().collect();
        let mut gone = Vec::new();
        self.listeners.retain(|channel, listeners| {
            listeners.retain(|listener| !listener.is_closed());
            let stays = !listeners.is_empty() || kept.contains(channel);
            if !stays {
                gone.push(channel.clone());
            }
            stays
        });
        for channel in &gone {
            *self.leaving.entry(channel.clone()).or_default() += 1;
        }
        gone
    }

    /// Removes channels whose subscription was refused, with their listeners.
    fn forget(&mut self, channels: &[String]) {
        for channel in channels {
            self.listeners.remove(channel);
        }
    }

    fn end(&mut self) {
        self.is_over = true;
        self.listeners.clear();
        self.over.cancel();
    }

    /// Handles a push message.
    fn take(&mut self, pushed: PushInfo) {
        let mut data = pushed.data.into_iter();
        let channel = data.next().and_then(text);
        match (pushed.kind, channel) {
            (PushKind::Message | PushKind::SMessage, Some(channel)) => {
                if let Some(Value::BulkString(payload)) = data.next() {
                    self.pass(&Message { channel, payload });
                }
            }
            (PushKind::Disconnection, _) => self.end(),
            (PushKind::SUnsubscribe | PushKind::Unsubscribe, Some(channel)) => self.left(channel),
            _ => {}
        }
    }

    fn pass(&self, message: &Message) {
        for listener in self.listeners.get(&message.channel).into_iter().flatten() {
            // A closed listener is removed with the next subscription.
            let _ = listener.send(message.clone());
        }
    }

    fn left(&mut self, channel: String) {
        match self.leaving.get_mut(&channel) {
            Some(1) => drop(self.leaving.remove(&channel)),
            Some(times) => *times -= 1,
            // The server unsubscribed, because the slot has moved to another node.
            None if self.listeners.contains_key(&channel) => self.end(),
            None => {}
        }
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// An idle connection can be lost without notice.
async fn check(connection: Connection, channels: Weak<Mutex<Channels>>) {
    loop {
        tokio::time::sleep(CHECK).await;
        if channels.strong_count() == 0 {
            return;
        }
        let is_good = connection.send(&redis::cmd("PING")).await.is_ok();
        let Some(channels) = channels.upgrade() else {
            return;
        };
        let mut channels = channels.lock();
        if !is_good {
            channels.end();
        }
        if channels.is_over {
            return;
        }
    }
}
