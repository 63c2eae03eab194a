//! The description of a simulated fleet. Scenarios are generated from seeds, stored in files and shrunk.

use asynqueue_core::testing::fleet::Strike;
use serde::{Deserialize, Serialize};

/// The queues of every scenario.
pub(crate) const QUEUES: [&str; 3] = ["default", "left", "right"];

/// A fleet with its load and its faults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// Why the scenario is kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) note: String,
    pub(crate) seed: u64,
    /// How long faults strike, in milliseconds.
    pub(crate) lasts: u64,
    /// Whether the store measures leases with a wall clock, which can be set, as Redis does.
    #[serde(default)]
    pub(crate) wall_leases: bool,
    /// The time in which a due task must start without faults, in milliseconds. Set only if all tasks are quick.
    pub(crate) prompt: Option<u64>,
    pub(crate) servers: Vec<ServerPlan>,
    /// The tasks of each producer.
    pub(crate) producers: Vec<Vec<Order>>,
    /// The interval of the entry of each scheduler, in seconds.
    pub(crate) schedulers: Vec<u64>,
    /// The operations of each operator.
    pub(crate) operators: Vec<Vec<Operation>>,
    pub(crate) strikes: Vec<Strike>,
}

/// A server. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerPlan {
    /// The initial build. Build 0 handles fewer events and rejects the payloads of later builds.
    pub(crate) build: usize,
    pub(crate) concurrency: usize,
    pub(crate) lease: u64,
    pub(crate) poll: u64,
    pub(crate) shutdown: u64,
    pub(crate) grace: u64,
    pub(crate) strict: bool,
    /// The concurrency of the limited event.
    pub(crate) limit: usize,
}

/// A task to enqueue. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    /// The delay after the previous order.
    pub(crate) after: u64,
    pub(crate) kind: Kind,
    /// The acts of its attempts. The last one repeats.
    pub(crate) acts: Vec<Act>,
    /// The index of the queue.
    pub(crate) queue: usize,
    pub(crate) priority: u8,
    pub(crate) delay: u64,
    pub(crate) max_retry: u32,
    pub(crate) timeout: u64,
    pub(crate) retention: u64,
    /// The number of the unique key.
    pub(crate) unique: Option<u8>,
    pub(crate) expires: Option<u64>,
    pub(crate) deadline: Option<u64>,
    /// Whether the producer waits for the result.
    pub(crate) waits: bool,
}

/// The kind of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Handled by every build.
    Work,
    /// Handled from build 1 on.
    New,
    /// Runs with limited concurrency.
    Limited,
    /// A member of the group of its queue.
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
    /// Panics on drop, after this time.
    PanicInDrop(u64),
    /// Never completes.
    Hang,
    /// Blocks its thread for this time.
    Block(u64),
    /// Ignores cancellation for this time.
    Stubborn(u64),
    Snooze(u64),
    SkipRetry,
    Revoke,
    /// Returns a result above the size limit.
    TooLarge,
    /// Enqueues another task.
    Enqueue,
}

/// An operation of an operator. Times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Operation {
    Wait(u64),
    Pause(usize),
    Resume(usize),
    Cancel(u64),
    Delete(u64),
    RunNow(u64),
    Retry(u64),
    Archive(u64),
    Edit(u64),
    /// The number of a known task, and the index of its new queue.
    Move(u64, usize),
    /// The index of a server, and whether it becomes quiet.
    Quiet(usize, bool),
}
