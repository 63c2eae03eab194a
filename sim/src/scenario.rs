//! What a simulated fleet is made of: generated from a seed, written to a file, made smaller.

use asynqueue_core::testing::fleet::Strike;
use serde::{Deserialize, Serialize};

/// The queues of every scenario.
pub(crate) const QUEUES: [&str; 3] = ["default", "left", "right"];

/// A fleet, what is asked of it, and what strikes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// Why it is kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) note: String,
    pub(crate) seed: u64,
    /// For how long faults strike, in milliseconds.
    pub(crate) lasts: u64,
    /// Whether the store counts leases by its clock, which can be set, as Redis does.
    #[serde(default)]
    pub(crate) wall_leases: bool,
    /// How soon a task that is due must start while all is well, in milliseconds: only where all tasks are quick.
    pub(crate) prompt: Option<u64>,
    pub(crate) servers: Vec<ServerPlan>,
    /// What each producer enqueues.
    pub(crate) producers: Vec<Vec<Order>>,
    /// The interval of the one entry of each scheduler, in seconds.
    pub(crate) schedulers: Vec<u64>,
    /// What each operator does.
    pub(crate) operators: Vec<Vec<Deed>>,
    pub(crate) strikes: Vec<Strike>,
}

/// A server. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerPlan {
    /// Which build it begins with. Build 0 knows fewer events, and does not read the payloads of later builds.
    pub(crate) build: usize,
    pub(crate) concurrency: usize,
    pub(crate) lease: u64,
    pub(crate) poll: u64,
    pub(crate) shutdown: u64,
    pub(crate) grace: u64,
    pub(crate) strict: bool,
    /// How many tasks of the limited event run at once.
    pub(crate) limit: usize,
}

/// A task to enqueue. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    /// How long after the one before.
    pub(crate) after: u64,
    pub(crate) kind: Kind,
    /// What its attempts do; the last one again and again.
    pub(crate) acts: Vec<Act>,
    /// The queue, by its place.
    pub(crate) queue: usize,
    pub(crate) priority: u8,
    pub(crate) delay: u64,
    pub(crate) max_retry: u32,
    pub(crate) timeout: u64,
    pub(crate) retention: u64,
    /// A unique key, by its number.
    pub(crate) unique: Option<u8>,
    pub(crate) expires: Option<u64>,
    pub(crate) deadline: Option<u64>,
    /// Whether the producer waits for the result.
    pub(crate) waits: bool,
}

/// What is enqueued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Handled by every build.
    Work,
    /// Handled from build 1 on.
    New,
    /// Not more than some at once.
    Limited,
    /// A member of a group, by its queue.
    Member,
    /// Published to two subscribers.
    News,
}

/// What an attempt does. Times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Act {
    Ok,
    Sleep(u64),
    Fail,
    Panic,
    /// Panics when it is dropped, after this long.
    PanicInDrop(u64),
    /// Waits for ever.
    Hang,
    /// Keeps its thread for this long.
    Block(u64),
    /// Ignores that it is asked to stop for this long.
    Stubborn(u64),
    Snooze(u64),
    SkipRetry,
    Revoke,
    /// Returns more than the server takes.
    TooLarge,
    /// Enqueues another task.
    Enqueue,
}

/// What an operator does. Times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Deed {
    Wait(u64),
    Pause(usize),
    Resume(usize),
    Cancel(u64),
    Delete(u64),
    RunNow(u64),
    Retry(u64),
    Archive(u64),
    Edit(u64),
    /// A task, by its number among those that are known, to a queue.
    Move(u64, usize),
    /// Lets a server, by its place, lease nothing.
    Quiet(usize, bool),
}
