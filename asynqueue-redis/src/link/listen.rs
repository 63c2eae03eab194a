//! Subscriptions: one connection for all who listen.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use redis::{PushInfo, PushKind, RedisResult, Value};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{connection::Connection, io, target::Target};

/// How often to see whether the connection is alive.
const CHECK: Duration = Duration::from_secs(5);

/// A message of a channel.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) channel: String,
    pub(crate) payload: Vec<u8>,
}

/// Those who listen.
pub(super) struct Listeners {
    target: Arc<Target>,
    is_sharded: bool,
    current: tokio::sync::Mutex<Option<Subscriber>>,
    channels: Mutex<Weak<Mutex<Channels>>>,
}

/// A connection to subscribe by, and who hears what comes by it.
struct Subscriber {
    connection: Connection,
    channels: Arc<Mutex<Channels>>,
}

#[derive(Default)]
struct Channels {
    listeners: HashMap<String, Vec<UnboundedSender<Message>>>,
    /// Channels that were unsubscribed from, as often as the server has yet to confirm it.
    leaving: HashMap<String, usize>,
    /// The connection is lost: whoever listens has to begin anew.
    is_over: bool,
}

impl Listeners {
    pub(super) fn new(target: Arc<Target>, is_sharded: bool) -> Self {
        Self {
            target,
            is_sharded,
            current: Default::default(),
            channels: Default::default(),
        }
    }

    pub(super) async fn listen(
        &self,
        channels: &[String],
    ) -> RedisResult<UnboundedReceiver<Message>> {
        // Held over the calls: subscribing and unsubscribing must not get in each other's way.
        let mut current = self.current.lock().await;
        let is_good = |subscriber: &Subscriber| !subscriber.channels.lock().is_over;
        let subscriber = match current.take().filter(is_good) {
            Some(subscriber) => subscriber,
            None => Box::pin(self.subscriber()).await?,
        };
        let (sender, messages) = unbounded_channel();
        // Before subscribing, so that the first message finds its listener.
        let new = subscriber.channels.lock().add(channels, &sender);
        drop(sender);
        // On its own each, since in a Cluster they are on different nodes. A failure gives the connection up.
        for channel in new {
            subscriber
                .connection
                .subscribe(&channel, self.is_sharded)
                .await?;
        }
        let gone = subscriber.channels.lock().leave();
        for channel in gone {
            subscriber
                .connection
                .unsubscribe(&channel, self.is_sharded)
                .await?;
        }
        *current = Some(subscriber);
        Ok(messages)
    }

    async fn subscriber(&self) -> RedisResult<Subscriber> {
        let channels = Arc::new(Mutex::new(Channels::default()));
        let heard = Arc::clone(&channels);
        // Called where the connection is read, so that a message wakes its listener and nobody else on its way.
        let target = Arc::clone(&self.target);
        let hear = move |pushed| heard.lock().take(pushed);
        let connecting = async move { target.connect_to_listen(hear).await };
        let connection = io::run(connecting).await??;
        *self.channels.lock() = Arc::downgrade(&channels);
        io::spawn(check(connection.clone(), Arc::downgrade(&channels)))?;
        Ok(Subscriber {
            connection,
            channels,
        })
    }

    /// Ends all streams of messages.
    pub(super) fn hang_up(&self) {
        if let Some(channels) = self.channels.lock().upgrade() {
            channels.lock().end();
        }
    }
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

    /// Forgets channels that nobody listens to any more, to be unsubscribed from.
    fn leave(&mut self) -> Vec<String> {
        let mut gone = Vec::new();
        self.listeners.retain(|channel, listeners| {
            listeners.retain(|listener| !listener.is_closed());
            if listeners.is_empty() {
                gone.push(channel.clone());
            }
            !listeners.is_empty()
        });
        for channel in &gone {
            *self.leaving.entry(channel.clone()).or_default() += 1;
        }
        gone
    }

    fn end(&mut self) {
        self.is_over = true;
        self.listeners.clear();
    }

    /// Takes what came in.
    fn take(&mut self, pushed: PushInfo) {
        let mut data = pushed.data.into_iter();
        let channel = data.next().and_then(text);
        match (pushed.kind, channel) {
            (PushKind::Message | PushKind::SMessage, Some(channel)) => {
                if let Some(Value::BulkString(payload)) = data.next()
                    && let Some(listeners) = self.listeners.get(&channel)
                {
                    for listener in listeners {
                        // One that is gone is forgotten when the next comes.
                        let _ = listener.send(Message {
                            channel: channel.clone(),
                            payload: payload.clone(),
                        });
                    }
                }
            }
            (PushKind::Disconnection, _) => self.end(),
            (PushKind::SUnsubscribe | PushKind::Unsubscribe, Some(channel)) => self.left(channel),
            _ => {}
        }
    }

    fn left(&mut self, channel: String) {
        match self.leaving.get_mut(&channel) {
            Some(1) => drop(self.leaving.remove(&channel)),
            Some(times) => *times -= 1,
            // By the server, since the slot has moved to another.
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

/// A connection that nothing comes by may be lost without a sign.
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

impl Connection {
    async fn subscribe(&self, channel: &str, is_sharded: bool) -> RedisResult<()> {
        match self.clone() {
            Self::Node(mut node) => node.subscribe(channel).await,
            Self::Cluster(mut cluster) if is_sharded => cluster.ssubscribe(channel).await,
            Self::Cluster(mut cluster) => cluster.subscribe(channel).await,
        }
    }

    async fn unsubscribe(&self, channel: &str, is_sharded: bool) -> RedisResult<()> {
        match self.clone() {
            Self::Node(mut node) => node.unsubscribe(channel).await,
            Self::Cluster(mut cluster) if is_sharded => cluster.sunsubscribe(channel).await,
            Self::Cluster(mut cluster) => cluster.unsubscribe(channel).await,
        }
    }
}
