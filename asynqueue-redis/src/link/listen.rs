//! Subscriptions: one connection for all who listen.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use redis::{PushInfo, PushKind, RedisResult, Value};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{connection::Connection, target::Target};

/// How often to see whether the connection is alive, and who has stopped listening.
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

/// A connection to subscribe by, and what comes by it.
struct Subscriber {
    connection: Connection,
    channels: Arc<Mutex<Channels>>,
}

#[derive(Default)]
struct Channels {
    listeners: HashMap<String, Vec<UnboundedSender<Message>>>,
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
        let subscriber = match current
            .take()
            .filter(|subscriber| !subscriber.channels.lock().is_over)
        {
            Some(subscriber) => subscriber,
            None => Box::pin(self.subscriber()).await?,
        };
        subscriber.forget_gone(self.is_sharded).await?;
        let (sender, messages) = unbounded_channel();
        let mut new = Vec::new();
        {
            // Before subscribing, so that the first message finds its listener.
            let mut known = subscriber.channels.lock();
            for channel in channels {
                let listeners = known.listeners.entry(channel.clone()).or_default();
                if listeners.is_empty() {
                    new.push(channel.as_str());
                }
                listeners.push(sender.clone());
            }
        }
        drop(sender);
        // On its own each, since in a Cluster they are on different nodes. A failure gives the connection up.
        for channel in new {
            subscriber
                .connection
                .subscribe(channel, self.is_sharded)
                .await?;
        }
        *current = Some(subscriber);
        Ok(messages)
    }

    async fn subscriber(&self) -> RedisResult<Subscriber> {
        let (sender, pushed) = unbounded_channel();
        let connection = self.target.connect_to_listen(sender).await?;
        let channels = Arc::new(Mutex::new(Channels::default()));
        *self.channels.lock() = Arc::downgrade(&channels);
        let reading = read(pushed, connection.clone(), Arc::downgrade(&channels));
        tokio::spawn(reading);
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

impl Subscriber {
    /// Unsubscribes from channels that nobody listens to any more.
    async fn forget_gone(&self, is_sharded: bool) -> RedisResult<()> {
        let mut gone = Vec::new();
        self.channels.lock().listeners.retain(|channel, listeners| {
            listeners.retain(|listener| !listener.is_closed());
            let is_gone = listeners.is_empty();
            if is_gone {
                gone.push(channel.clone());
            }
            !is_gone
        });
        for channel in gone {
            self.connection.unsubscribe(&channel, is_sharded).await?;
        }
        Ok(())
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.channels.lock().end();
    }
}

impl Channels {
    fn end(&mut self) {
        self.is_over = true;
        self.listeners.clear();
    }

    /// Takes what came in; returns whether the connection is still good for all that was subscribed.
    fn take(&mut self, pushed: PushInfo) -> bool {
        let mut data = pushed.data.into_iter();
        let channel = data.next().and_then(text);
        match pushed.kind {
            PushKind::Message | PushKind::SMessage => {
                if let (Some(channel), Some(Value::BulkString(payload))) = (channel, data.next())
                    && let Some(listeners) = self.listeners.get_mut(&channel)
                {
                    let message = Message { channel, payload };
                    listeners.retain(|listener| listener.send(message.clone()).is_ok());
                }
                true
            }
            PushKind::Disconnection => false,
            // By the server, when a slot has moved; what we unsubscribe from is not among the listeners any more.
            PushKind::SUnsubscribe | PushKind::Unsubscribe => {
                channel.is_none_or(|channel| !self.listeners.contains_key(&channel))
            }
            _ => true,
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

/// Passes messages on until the connection is lost or nobody needs it any more.
async fn read(
    mut pushed: UnboundedReceiver<PushInfo>,
    connection: Connection,
    channels: Weak<Mutex<Channels>>,
) {
    let mut check = tokio::time::interval(CHECK);
    loop {
        let is_good = tokio::select! {
            pushed = pushed.recv() => match (pushed, channels.upgrade()) {
                (Some(pushed), Some(channels)) => channels.lock().take(pushed),
                _ => false,
            },
            // A connection that nothing comes by may be lost without a sign.
            _ = check.tick() => connection.send(&redis::cmd("PING")).await.is_ok(),
        };
        let Some(channels) = channels.upgrade() else {
            return;
        };
        if !is_good {
            channels.lock().end();
        }
        if channels.lock().is_over {
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
