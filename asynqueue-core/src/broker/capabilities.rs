//! The optional features of a store.

/// The optional features of a store. Without a feature, its calls return nothing or an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Queues are stored in several places, each of which can be unavailable while the others respond. Servers then
    /// send one request per queue, all concurrently, so that no queue waits for another.
    pub is_partitioned: bool,
    /// Several processes share what is stored. Not set for a store in the memory of one process.
    pub is_shared: bool,
    /// [Signals](super::Control::signals) are sent. Without them servers poll.
    pub signals: bool,
    /// [Groups](super::Groups) are supported. Without them, tasks that are to be aggregated are refused.
    pub groups: bool,
    /// The [progress](super::Control::report) of active tasks is stored.
    pub progress: bool,
    /// Attempts are counted by [hour](super::Inspect::history).
    pub history: bool,
    /// [Figures over time](super::Inspect::points) are kept.
    pub points: bool,
    /// The [memory](super::Inspect::memory) of queues is known.
    pub memory: bool,
    /// [`enqueue_durably`](super::Broker::enqueue_durably) supports more than
    /// [`Durability::Primary`](super::Durability::Primary).
    pub durability: bool,
    /// Tasks and statistics of another store can be [imported](super::Store::import).
    pub import: bool,
}
