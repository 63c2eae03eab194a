//! The faults of a simulated fleet, and their plan.

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
    /// Requests are lost on their way to the store: the call fails and has no effect.
    LostRequests,
    /// Responses are lost on their way back: the call fails and has taken effect.
    LostAnswers,
    /// Calls take up to five seconds.
    Slow,
    /// Calls fail immediately and take effect later, after the caller has sent them again.
    Late,
    /// Calls take effect twice.
    Twice,
    /// The store does not respond at all.
    Away,
    /// The store responds with errors of any kind.
    Errors,
    /// The store is full: it accepts no tasks and no outcomes; all other calls succeed.
    Full,
    /// One queue responds with errors or not at all, while the others are healthy.
    SickQueue,
    /// Signals are lost.
    Deaf,
    /// A node is killed, and restarted later.
    Kill,
    /// A node is frozen and resumes later, as by SIGSTOP and SIGCONT.
    Freeze,
    /// A node is shut down gracefully, and its next build is started.
    Restart,
    /// A node's copy of the store's clock is set.
    NodeClock,
    /// The store's clock is set.
    StoreClock,
    /// The store loses the schedule entries and subscriptions that programs declare.
    Forget,
}

impl Fault {
    /// All faults.
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

    /// Whether it always affects a single node.
    fn is_of_a_node(self) -> bool {
        matches!(
            self,
            Self::Kill | Self::Freeze | Self::Restart | Self::NodeClock
        )
    }

    /// Whether it always affects the store, and so all nodes.
    fn is_of_the_store(self) -> bool {
        matches!(self, Self::SickQueue | Self::StoreClock | Self::Forget)
    }

    /// Whether a server that it affects may lose leases.
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

/// A fault at a given time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Strike {
    /// The kind of fault.
    pub fault: Fault,
    /// When it starts, in milliseconds after the start of the fleet.
    pub at: u64,
    /// How long it lasts, in milliseconds.
    pub lasts: u64,
    /// The affected node, by its index in the fleet. Default: all nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<usize>,
    /// How many percent of the calls it affects.
    pub percent: u8,
    /// By how many milliseconds a clock is set, or the index of the sick queue.
    #[serde(default)]
    pub amount: i64,
}

impl Strike {
    /// A fault that affects all nodes and every call, from the start on for a second. Set the fields to change that.
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

    /// A random strike that starts before `end`.
    fn random(chance: &mut Xoshiro256PlusPlus, fault: Fault, end: Duration, nodes: usize) -> Self {
        let end = end.as_millis() as u64;
        let at = below(chance, end.max(1));
        // Most are short, and some are longer than every lease.
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

    /// The sick queue.
    pub(super) fn queue_of<'a>(&self, queues: &'a [Name]) -> Option<&'a Name> {
        queues.get(self.amount.unsigned_abs() as usize % queues.len().max(1))
    }

    /// Whether it affects a node.
    pub(super) fn concerns(&self, node: usize) -> bool {
        self.node.is_none_or(|concerned| concerned == node)
    }
}

/// The faults of a seed, in the order of their start.
pub(super) fn plan(seed: u64, faults: &[Fault], lasts: Duration, nodes: usize) -> Vec<Strike> {
    if faults.is_empty() {
        return Vec::new();
    }
    // Uses a separate generator, so that the plan of a seed is known without running it.
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

/// A step of a second to a day in milliseconds, forward or back.
fn clock_step(chance: &mut Xoshiro256PlusPlus) -> i64 {
    let most = [1_000, 30_000, 3_600_000, 86_400_000][below(chance, 4) as usize];
    let step = 1 + below(chance, most) as i64;
    if below(chance, 2) == 0 { step } else { -step }
}
