//! What a store offers beyond what every store has to.

/// What a store offers. A flag that is not set means that the calls in question answer that there is nothing, or refuse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Queues are kept in several places, of which one can be away while the others answer. Then servers ask for each queue with a call
    /// of its own, all at the same time, so that none waits for another.
    pub is_partitioned: bool,
    /// Other processes see what is kept, so that they share the work. Not so for a store in the memory of one process.
    pub is_shared: bool,
    /// [Signals](super::Control::signals) are sent. Without them servers poll.
    pub signals: bool,
    /// [Groups](super::Groups) are kept. Without them tasks that are to be aggregated are refused.
    pub groups: bool,
    /// The [progress](super::Control::report) of active tasks is kept.
    pub progress: bool,
    /// Attempts are counted by [hour](super::Inspect::history).
    pub history: bool,
    /// The [memory](super::Inspect::memory) that queues take is known.
    pub memory: bool,
    /// [`enqueue_durably`](super::Broker::enqueue_durably) offers more than [`Durability::Primary`](super::Durability::Primary).
    pub durability: bool,
}
