//! The broker. `store.rs` implements its trait. Most methods group their arguments by queue and call one script for
//! each queue and chunk.

mod coalesce;
mod control;
mod documents;
mod edit;
mod enqueue;
mod groups;
mod import;
mod inspect;
mod known_upkeep;
mod lease;
mod leftovers;
mod list;
mod ownership;
mod points;
mod queue;
mod repair;
mod room;
mod settle;
mod store;
mod task_ids;
mod upkeep;
mod waiters;
mod wakeups;

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{Broker, BrokerError, Durability, SharedBroker, Unreadable, kit::Lanes},
    task::{Clock, Name, Timestamp},
};
use parking_lot::RwLock;

use self::{ownership::Keeper, queue::Queue};
use crate::{
    ConnectError, RedisOptions,
    keys::{self, DocumentKeys},
    link::{Link, Sent},
    reply,
};

/// The limit of tasks in one call of a script. Lua's stack holds a few times as many values, and Redis serves no other
/// client during the call.
const MAX_CHUNK: usize = 500;

/// The limit of task bytes in one call, unless a single task is larger.
const MAX_CHUNK_BYTES: usize = 1 << 20;

/// The longest duration, in milliseconds: numbers in Lua and in sorted sets are exact up to 2⁵³.
const MAX_MILLIS: u64 = 1 << 52;

/// Stores tasks in Redis. Clones share their connections.
///
/// ```no_run
/// use asynqueue_core::broker::Inspect;
/// use asynqueue_redis::{RedisBroker, RedisOptions};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let broker = RedisBroker::connect(RedisOptions::new("redis://localhost")?).await?;
/// println!("{:?}", broker.queues().await?);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisBroker(Arc<Inner>);

struct Inner {
    link: Link,
    address: String,
    prefix: String,
    db: i64,
    /// The limit of task bytes in one response, unless a single task is larger.
    answer_bytes: usize,
    /// How long a call may be sent again.
    retry_for: Duration,
    /// The keys of documents.
    documents: DocumentKeys,
    /// Lanes for changes that do not belong to a queue.
    changes: Lanes,
    /// Set by tests. Otherwise the clock of Redis counts.
    clock: Option<Arc<dyn Clock>>,
    /// Distinguishes the lanes and leases of this handle from all others.
    instance: u64,
    queues: RwLock<HashMap<Name, Arc<Queue>>>,
    /// The tag of each worker that leases with this handle.
    workers: RwLock<HashMap<Name, u32>>,
    /// What must hold new tasks and outcomes before a call returns.
    durability: Durability,
    unreadable: Unreadable,
    keeper: Keeper,
}

impl RedisBroker {
    /// Connects to Redis, and checks that it can store tasks.
    ///
    /// # Errors
    ///
    /// When Redis cannot be reached, refuses the user, or is too old.
    pub async fn connect(options: RedisOptions) -> Result<Self, ConnectError> {
        let (prefix, clock) = (options.prefix.clone(), options.clock.clone());
        let durability = options.durability;
        let db = options.db;
        let (answer_bytes, retry_for) = (options.answer_bytes, options.retry_for);
        let address = options.address();
        let instance: u64 = rand::random();
        let broker = Self(Arc::new(Inner {
            link: Link::open(options).await?,
            address,
            documents: DocumentKeys::new(&prefix),
            prefix,
            db,
            answer_bytes,
            retry_for,
            changes: Lanes::new(format!("{instance:016x}o")),
            clock,
            instance,
            queues: RwLock::default(),
            workers: RwLock::default(),
            durability,
            unreadable: Unreadable::default(),
            keeper: Keeper::default(),
        }));
        let address = || broker.0.address.clone();
        broker
            .read_time()
            .await
            .map_err(|error| ConnectError::Unreachable {
                address: address(),
                reason: error.to_string(),
            })?;
        Ok(broker)
    }

    /// Returns a section of `INFO`, such as `memory`, from each master, with its address.
    ///
    /// # Errors
    ///
    /// When Redis cannot be reached.
    pub async fn info(&self, section: &str) -> Result<Vec<(String, String)>, BrokerError> {
        self.link().info(section).await
    }

    fn link(&self) -> &Link {
        &self.0.link
    }

    /// The queue, which may not have any keys yet.
    fn queue(&self, name: &Name) -> Arc<Queue> {
        if let Some(queue) = self.0.queues.read().get(name) {
            return Arc::clone(queue);
        }
        let mut queues = self.0.queues.write();
        let new = || {
            let (prefix, db, bytes) = (&self.0.prefix, self.0.db, self.0.answer_bytes);
            let instance = self.0.instance;
            Arc::new(Queue::new(prefix, db, name.clone(), instance, bytes))
        };
        Arc::clone(queues.entry(name.clone()).or_insert_with(new))
    }

    /// The clock argument of scripts: the deadline of the call by the clock of Redis, or the time that a test has set.
    fn script_clock(&self) -> String {
        self.script_clock_of(Sent::First)
    }

    /// The same for a call that may already have taken effect.
    fn script_clock_of(&self, sent: Sent) -> String {
        match &self.0.clock {
            Some(clock) => clock.now().as_millis().to_string(),
            None => self.link().not_after(sent),
        }
    }

    /// Notes the time that Redis has just reported.
    fn note_time(&self, now: Timestamp) {
        if self.0.clock.is_none() {
            self.link().clock().note(now);
        }
    }

    async fn read_time(&self) -> Result<(), BrokerError> {
        let value = self.command(&redis::cmd("TIME")).await?;
        let mut parts = reply::array(value)?.into_iter();
        let seconds = reply::number(reply::next(&mut parts)?)?;
        let micros = reply::number(reply::next(&mut parts)?)?;
        self.note_time(Timestamp::from_millis(seconds * 1_000 + micros / 1_000));
        Ok(())
    }

    /// Sends a command that is not a script.
    async fn command(&self, command: &redis::Cmd) -> Result<redis::Value, BrokerError> {
        use crate::link::SendError;
        self.link()
            .send(command)
            .await
            .map_err(|error| match error {
                SendError::Broker(error) => error,
                SendError::Denied(denied) => self.link().explain(denied, None),
                SendError::NoScript => {
                    BrokerError::protocol("unexpected `NOSCRIPT` for a plain command")
                }
            })
    }

    /// Returns all fields of a hash.
    async fn hash(&self, key: &str) -> Result<Vec<(String, Vec<u8>)>, BrokerError> {
        let mut command = redis::cmd("HGETALL");
        command.arg(key);
        let pairs: Vec<(redis::Value, redis::Value)> = match self.command(&command).await? {
            redis::Value::Map(pairs) => pairs,
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

    fn queues_key(&self) -> String {
        keys::queues(&self.0.prefix)
    }
}

impl fmt::Debug for RedisBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBroker")
            .field("prefix", &self.0.prefix)
            .finish_non_exhaustive()
    }
}

impl From<RedisBroker> for SharedBroker {
    fn from(broker: RedisBroker) -> Self {
        Arc::new(broker)
    }
}

/// Milliseconds, rounded up, and limited to what can be stored.
fn millis(duration: Duration) -> u64 {
    (Timestamp::default() + duration)
        .as_millis()
        .min(MAX_MILLIS)
}
