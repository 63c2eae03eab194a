//! What can go wrong in a simulated fleet, and when it does.

use std::time::Duration;

use rand::{SeedableRng, rngs::Xoshiro256PlusPlus};
use serde::{Deserialize, Serialize};

use super::chance::below_of as below;
use crate::task::Name;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Fault {
    /// Requests are lost on their way to the store: the call fails, and has no effect.
    LostRequests,
    /// Answers are lost on their way back: the call fails, and has had its effect.
    LostAnswers,
    /// Calls take up to five seconds.
    Slow,
    /// Calls fail at once and take effect later, after the caller has sent them again.
    Late,
    /// Calls take effect twice.
    Twice,
    /// The store does not answer at all.
    Away,
    /// The store answers with an error, of any kind.
    Errors,
    /// The store has no room left: it takes no tasks and no outcomes, and answers all else.
    Full,
    /// One queue answers with errors, or not at all, while the others are well.
    SickQueue,
    /// Signals are lost.
    Deaf,
    /// A node is killed, and started again later.
    Kill,
    /// A node is stopped where it is, and resumes later, as by SIGSTOP and SIGCONT.
    Freeze,
    /// A node is shut down in order, and its next build is started.
    Restart,
    /// The clock by which a node knows the store's time is set.
    NodeClock,
    /// The store's clock is set.
    StoreClock,
    /// The store loses the schedule entries and subscriptions that programs declare.
    Forget,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::LostRequests,
        Self::LostAnswers,
        Self::Slow,
        Self::Late,
        Self::Twice,
        Self::Away,
        Self::Errors,
        Self::Full,
        Self::SickQueue,
        Self::Deaf,
        Self::Kill,
        Self::Freeze,
        Self::Restart,
        Self::NodeClock,
        Self::StoreClock,
        Self::Forget,
    ];

    /// Whether it always strikes a single node.
    fn is_of_a_node(self) -> bool {
        matches!(
            self,
            Self::Kill | Self::Freeze | Self::Restart | Self::NodeClock
        )
    }

    /// Whether it always strikes the store, and so all nodes.
    fn is_of_the_store(self) -> bool {
        matches!(self, Self::SickQueue | Self::StoreClock | Self::Forget)
    }

    /// Whether a server that it strikes may lose leases by it.
    pub(super) fn may_cost_leases(self) -> bool {
        !matches!(
            self,
            Self::Full
                | Self::Deaf
                | Self::Restart
                | Self::NodeClock
                | Self::StoreClock
                | Self::Forget
        )
    }
}

/// A fault that strikes at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Strike {
    /// The kind.
    pub fault: Fault,
    /// When it begins, in milliseconds after the start.
    pub at: u64,
    /// How long it lasts, in milliseconds.
    pub lasts: u64,
    /// The node that it strikes, by its place in the fleet; all of them by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<usize>,
    /// How many calls of a hundred it concerns.
    pub percent: u8,
    /// By how many milliseconds a clock is set, or which queue is sick.
    #[serde(default)]
    pub amount: i64,
}

impl Strike {
    /// Of a kind, for all nodes and every call, from the start on for a second. Set the fields to change that.
    pub fn new(fault: Fault) -> Self {
        Self {
            fault,
            at: 0,
            lasts: 1_000,
            node: None,
            percent: 100,
            amount: 0,
        }
    }

    /// At random, at some time before `end`.
    fn random(chance: &mut Xoshiro256PlusPlus, fault: Fault, end: Duration, nodes: usize) -> Self {
        let end = end.as_millis() as u64;
        let at = below(chance, end.max(1));
        // Most are short, and some longer than every lease.
        let longest = [500, 2_000, 8_000, 40_000][below(chance, 4) as usize];
        let lasts = 1 + below(chance, longest).min(end - at);
        let is_of_one = fault.is_of_a_node()
            || (!fault.is_of_the_store() && below(chance, 100) < 60) && nodes > 0;
        Self {
            fault,
            at,
            lasts,
            node: is_of_one.then(|| below(chance, nodes.max(1) as u64) as usize),
            percent: [3, 20, 60, 100][below(chance, 4) as usize],
            amount: match fault {
                Fault::SickQueue => below(chance, 4) as i64,
                _ => clock_step(chance),
            },
        }
    }

    /// The queue that is sick.
    pub(super) fn queue_of<'a>(&self, queues: &'a [Name]) -> Option<&'a Name> {
        queues.get(self.amount.unsigned_abs() as usize % queues.len().max(1))
    }

    /// Whether it concerns a node.
    pub(super) fn concerns(&self, node: usize) -> bool {
        self.node.is_none_or(|concerned| concerned == node)
    }
}

/// The faults of a seed, in the order in which they strike.
pub(super) fn plan(seed: u64, faults: &[Fault], lasts: Duration, nodes: usize) -> Vec<Strike> {
    if faults.is_empty() {
        return Vec::new();
    }
    // A chance of its own: the plan of a seed is known without running it.
    let mut chance = Xoshiro256PlusPlus::seed_from_u64(!seed);
    let most = 3 + 4 * lasts.as_secs() / 60 * faults.len() as u64;
    let count = 1 + below(&mut chance, most);
    let one = |_| {
        let fault = faults[below(&mut chance, faults.len() as u64) as usize];
        Strike::random(&mut chance, fault, lasts, nodes)
    };
    let mut strikes: Vec<_> = (0..count).map(one).collect();
    strikes.sort_by_key(|strike| strike.at);
    strikes
}

/// Milliseconds between a second and a day, forward or back.
fn clock_step(chance: &mut Xoshiro256PlusPlus) -> i64 {
    let most = [1_000, 30_000, 3_600_000, 86_400_000][below(chance, 4) as usize];
    let step = 1 + below(chance, most) as i64;
    if below(chance, 2) == 0 { step } else { -step }
}
