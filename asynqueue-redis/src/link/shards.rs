//! Separate connections to each shard of a Cluster, so that a shard that does not respond does not delay calls to the
//! others. The cluster connection of redis-rs stops all calls while it refreshes the state of a node.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use parking_lot::{Mutex, RwLock};
use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};

use super::{
    connection::{Holder, Source},
    error::is_unusable,
    io,
    slots::{Address, SlotMap, slot_of},
    target::Target,
};

/// How often a command follows its slot.
const MAX_REDIRECTS: usize = 5;

/// The shortest time between two reads of the slot map.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The shards of a Cluster.
pub(super) struct Shards(Arc<Inner>);

struct Inner {
    target: Arc<Target>,
    /// How many connections to keep to each node.
    size: usize,
    slots: RwLock<SlotMap>,
    nodes: Mutex<HashMap<Address, Arc<Node>>>,
    /// Lets one caller read the slot map while the others wait for the result.
    looking: tokio::sync::Mutex<Option<Instant>>,
    /// Whether a background read is running.
    looks: AtomicBool,
}

/// A node, and the connections to it.
struct Node {
    address: Address,
    holders: Vec<Holder>,
    turn: AtomicUsize,
}

impl Shards {
    pub(super) fn new(target: &Arc<Target>, size: usize) -> Self {
        Self(Arc::new(Inner {
            target: Arc::clone(target),
            size,
            slots: RwLock::default(),
            nodes: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
            looks: AtomicBool::new(false),
        }))
    }

    /// Sends a command to the node that holds its keys. `None` for a command without keys.
    pub(super) fn send<'a>(
        &'a self,
        command: &'a Cmd,
    ) -> Option<BoxFuture<'a, RedisResult<Value>>> {
        let slot = slot_of(command)?;
        Some(self.0.send(slot, command).boxed())
    }
}

impl Inner {
    async fn send(self: &Arc<Self>, slot: u16, command: &Cmd) -> RedisResult<Value> {
        let (mut address, mut is_asking) = (self.find(slot).await?, false);
        let mut redirects = 0;
        loop {
            let node = self.node(&address)?;
            let error = match node.send(command, is_asking).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let elsewhere = error.redirect_node().and_then(|(node, _)| read(node));
            match (error.kind(), elsewhere) {
                _ if redirects == MAX_REDIRECTS => return Err(error),
                (ErrorKind::Server(ServerErrorKind::Moved), Some(node)) => {
                    let node = named(node, &address);
                    self.slots.write().note_moved(slot, node.clone());
                    self.look_soon();
                    (address, is_asking) = (node, false);
                }
                (ErrorKind::Server(ServerErrorKind::Ask), Some(node)) => {
                    (address, is_asking) = (named(node, &address), true);
                }
                (kind, _) => {
                    let is_down = kind == ErrorKind::Server(ServerErrorKind::ClusterDown);
                    if is_down || is_unusable(&error) {
                        // Another node may have become the master.
                        self.look_soon();
                    }
                    return Err(error);
                }
            }
            redirects += 1;
        }
    }

    /// The node of a slot. Reads the slot map if it is unknown.
    async fn find(self: &Arc<Self>, slot: u16) -> RedisResult<Address> {
        let known = || self.slots.read().node_of(slot).cloned();
        if let Some(node) = known() {
            return Ok(node);
        }
        self.look().await?;
        known().ok_or_else(|| {
            let message = format!("no master of the Cluster serves slot {slot}");
            std::io::Error::new(std::io::ErrorKind::NotConnected, message).into()
        })
    }

    fn node(&self, address: &Address) -> RedisResult<Arc<Node>> {
        let mut nodes = self.nodes.lock();
        if let Some(node) = nodes.get(address) {
            return Ok(Arc::clone(node));
        }
        let source = Source::of_node(&self.target, address.clone(), self.size)?;
        let holders = (0..self.size).map(|_| Holder::new(source.clone()));
        let node = Arc::new(Node {
            address: address.clone(),
            holders: holders.collect(),
            turn: AtomicUsize::new(0),
        });
        nodes.insert(address.clone(), Arc::clone(&node));
        Ok(node)
    }

    /// Reads the slot map in the background, after a call that found it outdated.
    fn look_soon(self: &Arc<Self>) {
        if self.looks.swap(true, Relaxed) {
            return;
        }
        let inner = Arc::clone(self);
        let looking = async move {
            if let Err(error) = inner.look().await {
                tracing::debug!(%error, "no node of the Cluster returned the slot map");
            }
            inner.looks.store(false, Relaxed);
        };
        // Without the I/O thread there are no connections either.
        if io::spawn(looking).is_err() {
            self.looks.store(false, Relaxed);
        }
    }

    /// Reads the slot map from all nodes. The first response counts, because a node may be down.
    async fn look(self: &Arc<Self>) -> RedisResult<()> {
        let mut last = self.looking.lock().await;
        if last.is_some_and(|last| last.elapsed() < LOOK_AGAIN) {
            return Ok(());
        }
        let mut nodes = self.slots.read().nodes();
        nodes.extend(self.target.nodes().iter().cloned());
        nodes.sort();
        nodes.dedup();
        let mut responses: FuturesUnordered<_> =
            nodes.iter().map(|node| self.read_slots(node)).collect();
        let mut failed = None;
        while let Some(answer) = responses.next().await {
            match answer {
                Ok(slots) => {
                    let in_use = slots.nodes();
                    *self.slots.write() = slots;
                    // Connections to nodes that have left close once their calls have ended.
                    let named = self.target.nodes();
                    let is_needed = |node: &Address| in_use.contains(node) || named.contains(node);
                    self.nodes.lock().retain(|node, _| is_needed(node));
                    *last = Some(Instant::now());
                    return Ok(());
                }
                Err(error) => failed = Some(error),
            }
        }
        let none = || RedisError::from((ErrorKind::Client, "the options contain no node"));
        Err(failed.unwrap_or_else(none))
    }

    async fn read_slots(&self, address: &Address) -> RedisResult<SlotMap> {
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let answer = self.node(address)?.send(&command, false).await?;
        let slots = SlotMap::read(answer, &address.0)?;
        if slots.nodes().is_empty() {
            let message = "the node returned an empty slot map";
            return Err(std::io::Error::new(std::io::ErrorKind::NotConnected, message).into());
        }
        Ok(slots)
    }
}

impl Node {
    async fn send(&self, command: &Cmd, is_asking: bool) -> RedisResult<Value> {
        let turn = self.turn.fetch_add(1, Relaxed);
        let holder = &self.holders[turn % self.holders.len()];
        let held = holder.held().await?;
        let answer = if is_asking {
            held.send_asking(command).await
        } else {
            held.send(command).await
        };
        if let Err(error) = &answer
            && is_unusable(error)
        {
            holder.give_up(&held);
            let (host, port) = &self.address;
            tracing::debug!(host, port, %error, "dropped a connection to a node of the Cluster");
        }
        answer
    }
}

/// Parses `host:port`. An empty host means the host of the node that sent it.
fn read(address: &str) -> Option<Address> {
    let (host, port) = address.rsplit_once(':')?;
    Some((host.to_owned(), port.parse().ok()?))
}

fn named((host, port): Address, by: &Address) -> Address {
    if host.is_empty() || host == "?" {
        (by.0.clone(), port)
    } else {
        (host, port)
    }
}
