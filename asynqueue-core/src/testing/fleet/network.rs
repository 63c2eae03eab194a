//! The network between the nodes of a simulated fleet and its store: it decides the fate of each call.

use std::{sync::Arc, time::Duration};

use super::{
    Fault, Strike,
    chance::{below, chance},
};
use crate::{broker::BrokerError, sync::Mutex, task::Name};

/// How long a client waits for a response.
const PATIENCE: Duration = Duration::from_secs(3);

/// The calls that a full store refuses.
const NEED_ROOM: [&str; 4] = ["enqueue", "settle", "aggregate", "set_apart"];

/// The active faults. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Network {
    active: Arc<Mutex<Vec<Strike>>>,
    queues: Arc<[Name]>,
}

/// The fate of a call.
#[derive(Debug)]
pub(super) struct Fate {
    /// How long the request takes to reach the store.
    pub(super) there: Duration,
    /// How long the response takes to return.
    pub(super) back: Duration,
    pub(super) way: Way,
}

#[derive(Debug)]
pub(super) enum Way {
    Plain,
    /// No effect; fails after the wait.
    Lost(Duration, BrokerError),
    /// Takes effect; fails after the wait.
    Unanswered(Duration),
    /// Fails after the first wait, and takes effect after the second.
    Late(Duration, Duration),
    /// Takes effect, and again after the wait.
    Twice(Duration),
}

impl Way {
    /// The name in a trace. `None` if there is no fault.
    pub(super) fn name(&self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Lost(..) => Some("lost"),
            Self::Unanswered(_) => Some("unanswered"),
            Self::Late(..) => Some("late"),
            Self::Twice(_) => Some("twice"),
        }
    }
}

impl Network {
    pub(super) fn new(queues: Vec<Name>) -> Self {
        Self {
            active: Arc::default(),
            queues: queues.into(),
        }
    }

    pub(super) fn start(&self, strike: &Strike) {
        self.active.lock().push(strike.clone());
    }

    pub(super) fn end(&self, strike: &Strike) {
        let mut active = self.active.lock();
        if let Some(place) = active.iter().position(|one| one == strike) {
            active.remove(place);
        }
    }

    /// Whether a fault is active for a node.
    pub(super) fn has(&self, fault: Fault, node: usize) -> bool {
        let active = self.active.lock();
        let mut active = active.iter();
        active.any(|strike| strike.fault == fault && strike.concerns(node))
    }

    /// The fate of a node's next call, which is of this method.
    pub(super) fn fate(&self, node: usize, method: &str) -> Fate {
        let mut fate = Fate {
            there: micros(50, 400),
            back: micros(50, 400),
            way: Way::Plain,
        };
        let active = self.active.lock();
        for strike in active.iter().filter(|strike| strike.concerns(node)) {
            if !chance(strike.percent) {
                continue;
            }
            fate.way = match strike.fault {
                Fault::Slow => {
                    if chance(50) {
                        fate.there = millis(5_000);
                    } else {
                        fate.back = millis(5_000);
                    }
                    continue;
                }
                Fault::LostRequests => Way::Lost(wait(), unavailable()),
                Fault::LostAnswers => Way::Unanswered(wait()),
                Fault::Late => Way::Late(millis(50), millis(20_000)),
                Fault::Twice => Way::Twice(millis(20_000)),
                Fault::Away => Way::Lost(PATIENCE, unavailable()),
                Fault::Errors => Way::Lost(Duration::ZERO, error()),
                Fault::Full if NEED_ROOM.contains(&method) => Way::Lost(Duration::ZERO, full()),
                _ => continue,
            };
        }
        fate
    }

    /// The error of a queue, if it is sick.
    pub(super) fn sickness(&self, queue: &Name) -> Option<BrokerError> {
        let active = self.active.lock();
        let sick = active.iter().find(|strike| {
            strike.fault == Fault::SickQueue && strike.queue_of(&self.queues) == Some(queue)
        })?;
        chance(sick.percent).then(unavailable)
    }

    /// Whether any queue is sick.
    pub(super) fn has_sick(&self) -> bool {
        let active = self.active.lock();
        active.iter().any(|strike| strike.fault == Fault::SickQueue)
    }
}

/// The time until a connection breaks, or until a response is no longer awaited.
fn wait() -> Duration {
    if chance(70) { millis(5) } else { PATIENCE }
}

fn millis(below_millis: u64) -> Duration {
    micros(0, below_millis * 1_000)
}

fn micros(from: u64, to: u64) -> Duration {
    Duration::from_micros(from + below(to - from))
}

fn unavailable() -> BrokerError {
    BrokerError::unavailable("simulated: the connection broke")
}

fn full() -> BrokerError {
    BrokerError::full("simulated: no memory left")
}

fn error() -> BrokerError {
    match below(3) {
        0 => unavailable(),
        1 => full(),
        _ => BrokerError::protocol("simulated: unexpected response"),
    }
}
