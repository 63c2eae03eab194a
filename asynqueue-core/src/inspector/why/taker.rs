//! The servers that take from a queue.

use crate::{
    broker::ServerInfo,
    task::{Name, Timestamp},
};

/// A server that takes from a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Taker {
    /// The name of the server.
    pub server: Name,
    /// Whether it works.
    pub state: TakerState,
    /// How many tasks of the queue it runs or is about to run.
    pub running: u64,
    /// How many it may. `None` if only its slots limit them.
    pub max: Option<u64>,
    /// How many of its slots are busy, with tasks of any queue.
    pub busy: u64,
    /// How many slots it has.
    pub slots: u64,
}

/// Whether a server takes tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TakerState {
    /// It takes tasks.
    Working,
    /// It takes none until it is resumed.
    Quiet,
    /// It is shutting down.
    Stopping,
    /// It stopped reporting.
    Lost,
}

impl TakerState {
    /// The state in lower case, such as `quiet`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::Quiet => "quiet",
            Self::Stopping => "stopping",
            Self::Lost => "lost",
        }
    }

    fn of(server: &ServerInfo, now: Timestamp) -> Self {
        if server.is_lost(now) {
            Self::Lost
        } else if server.stopping {
            Self::Stopping
        } else if server.quiet {
            Self::Quiet
        } else {
            Self::Working
        }
    }
}

impl Taker {
    /// The server as one that takes from a queue. `None` if it does not.
    pub(super) fn of(server: &ServerInfo, queue: &Name, now: Timestamp) -> Option<Self> {
        server.queues.iter().find(|(name, _)| name == queue)?;
        let used = server.queue_use.iter().find(|used| used.queue == *queue);
        let of_queue = || {
            let running = server.running.iter();
            running.filter(|running| running.task.queue == *queue)
        };
        Some(Self {
            server: server.name.clone(),
            state: TakerState::of(server, now),
            // Servers of earlier versions report running tasks only.
            running: used.map_or_else(|| of_queue().count() as u64, |used| used.running),
            max: used.and_then(|used| used.max),
            busy: server.busy as u64,
            slots: server.concurrency as u64,
        })
    }

    /// Whether it takes tasks.
    pub fn is_working(&self) -> bool {
        self.state == TakerState::Working
    }

    /// Whether it runs as many tasks of the queue as it may.
    pub fn is_at_limit(&self) -> bool {
        self.max.is_some_and(|max| self.running >= max)
    }

    /// Whether all its slots are busy.
    pub fn is_busy(&self) -> bool {
        self.busy >= self.slots
    }
}
