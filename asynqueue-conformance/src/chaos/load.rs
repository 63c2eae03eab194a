//! The tasks of a run. Everything about a task follows from its id: `KIND-PROCESS-NUMBER`.

use std::sync::Arc;

use asynqueue_core::{codec::MessagePack, task::Task};
use serde::{Deserialize, Serialize};

/// The queues of all but published events. Several, so that a Cluster spreads them.
pub(crate) const QUEUES: [&str; 4] = ["north", "east", "south", "west"];

/// The subscribers of each event.
pub(crate) const SUBSCRIBERS: [&str; 3] = ["billing", "mail", "stock"];

/// The schedule entries, which fire each second.
pub(crate) const ENTRIES: [&str; 6] = ["pulse", "beat", "clock", "bell", "drum", "metronome"];

/// The header with the tick of a task.
pub(crate) const TICK: &str = "tick";

/// How long the lock of a window is held, in milliseconds.
pub(crate) const WINDOW_MILLIS: u64 = 2_000;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $name:literal)*) => {
        /// The special property of a task.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Kind { $($(#[$doc])* $kind),* }

        impl Kind {
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$kind => $name),* }
            }

            /// The kind of the task with this id.
            pub(crate) fn of(id: &str) -> Self {
                match id.split('-').next() { $(Some($name) => Self::$kind,)* _ => Self::Made }
            }
        }
    };
}

kinds! {
    Plain "plain"
    /// Has a priority.
    Urgent "urgent"
    Delayed "delayed"
    /// Fails once or twice.
    Retried "retried"
    /// Has no retries.
    Once "once"
    /// Runs for up to several leases.
    Long "long"
    /// Unique until it succeeds.
    Unique "unique"
    /// Unique for a while.
    Window "window"
    /// Is aggregated with others.
    Member "member"
    /// Is published.
    News "news"
    /// Has a caller that waits for its result.
    Awaited "awaited"
    /// The operator changes its payload before it is due.
    Edited "edited"
    /// The operator moves it to another queue.
    Moved "moved"
    /// The operator deletes it.
    Deleted "deleted"
    /// The operator cancels it.
    Cancelled "cancelled"
    /// Fails for good at its first attempt. The operator runs it again.
    GivesUp "gives_up"
    /// Is created by a group or a schedule.
    Made "made"
}

impl Kind {
    /// The kinds that producers enqueue. Their frequency here is their frequency in a run.
    pub(crate) const PRODUCED: [Self; 16] = [
        Self::Plain,
        Self::Plain,
        Self::Plain,
        Self::Urgent,
        Self::Delayed,
        Self::Retried,
        Self::Retried,
        Self::Once,
        Self::Long,
        Self::Unique,
        Self::Unique,
        Self::Window,
        Self::Member,
        Self::Member,
        Self::News,
        Self::Awaited,
    ];

    /// The kinds that the operator enqueues to operate on.
    pub(crate) const OPERATED: [Self; 5] = [
        Self::Edited,
        Self::Moved,
        Self::Deleted,
        Self::Cancelled,
        Self::GivesUp,
    ];
}

/// The number at the end of an id.
pub(crate) fn number_of(id: &str) -> u64 {
    let number = id.rsplit('-').next();
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

/// The result of a task's handler.
pub(crate) fn result_of(id: &str) -> u64 {
    number_of(id) * 3 + 1
}

/// The usual task.
#[derive(Serialize, Deserialize)]
pub(crate) struct Work {
    pub(crate) id: String,
    /// 1 once it was edited.
    pub(crate) version: u32,
}

impl Task for Work {
    const EVENT: &'static str = "work";
    type Output = u64;
    type Codec = MessagePack;
}

/// The member of a group.
#[derive(Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) id: String,
}

impl Task for Member {
    const EVENT: &'static str = "member";
    type Output = ();
    type Codec = MessagePack;
}

/// The aggregate of a group.
#[derive(Serialize, Deserialize)]
pub(crate) struct Digest {
    pub(crate) members: Vec<String>,
}

impl Task for Digest {
    const EVENT: &'static str = "digest";
    type Output = ();
    type Codec = MessagePack;

    fn options() -> Arc<asynqueue_core::task::TaskOptions> {
        quick_retries()
    }
}

/// A published event.
#[derive(Serialize, Deserialize)]
pub(crate) struct News {
    pub(crate) id: String,
}

impl Task for News {
    const EVENT: &'static str = "news";
    type Output = ();
    type Codec = MessagePack;

    fn options() -> Arc<asynqueue_core::task::TaskOptions> {
        quick_retries()
    }
}

/// The task of a tick.
#[derive(Serialize, Deserialize)]
pub(crate) struct Tick {
    pub(crate) entry: String,
}

impl Task for Tick {
    const EVENT: &'static str = "tick";
    type Output = ();
    type Codec = MessagePack;

    fn options() -> Arc<asynqueue_core::task::TaskOptions> {
        quick_retries()
    }
}

/// A short backoff instead of the default of half a minute.
pub(crate) const BACKOFF: asynqueue_core::task::Backoff =
    asynqueue_core::task::Backoff::Fixed(std::time::Duration::from_millis(150));

fn quick_retries() -> Arc<asynqueue_core::task::TaskOptions> {
    let mut options = asynqueue_core::task::TaskOptions::default();
    options.backoff = BACKOFF;
    Arc::new(options)
}
