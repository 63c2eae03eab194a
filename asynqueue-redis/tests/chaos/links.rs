//! The faults of connections: what a proxy does to them. The tests of PostgreSQL use this file too.

use std::sync::Arc;

use asynqueue_conformance::chaos::{Dice, Fault};
use asynqueue_test_servers::{Fault as Broken, Proxy};
use tokio::sync::Mutex;

/// Responses are delayed.
const DELAY: Fault = Fault::mild("delay");

/// Connections end in the middle of a response.
const CUT: Fault = Fault::mild("cut");

/// Responses never arrive.
const SWALLOW: Fault = Fault::severe("swallow");

/// Requests are held, then delivered.
const HOLD: Fault = Fault::severe("hold");

/// Nothing is delivered.
const BLACKHOLE: Fault = Fault::severe("blackhole");

/// Requests arrive after they were sent again. Such requests can lease tasks without a worker.
const LATE: Fault = Fault::mild("late").frequent();

pub(crate) const FAULTS: [Fault; 6] = [DELAY, CUT, SWALLOW, HOLD, BLACKHOLE, LATE];

/// A proxy, which has one fault at a time.
pub(crate) struct Link {
    /// The place that its faults concern, or `all`.
    pub(crate) whom: String,
    pub(crate) proxy: Arc<Proxy>,
    /// Locked during a fault.
    pub(crate) is_broken: Mutex<()>,
}

impl Link {
    pub(crate) fn new(whom: &str, proxy: Arc<Proxy>) -> Self {
        Self {
            whom: whom.to_owned(),
            proxy,
            is_broken: Mutex::new(()),
        }
    }
}

/// Breaks all connections of a proxy for a while, or a random selection.
pub(crate) async fn break_link(fault: Fault, proxy: &Proxy, dice: &mut Dice) {
    let (broken, time) = match fault {
        DELAY => (Broken::Delay(dice.millis(20, 200)), dice.millis(500, 3_000)),
        CUT => (Broken::CutReplies, dice.millis(100, 1_000)),
        SWALLOW => (Broken::SwallowReplies, dice.millis(300, 1_500)),
        HOLD => (Broken::Hold, dice.millis(300, 4_500)),
        LATE => (Broken::Late(dice.millis(600, 2_500)), dice.millis(50, 200)),
        _ => (Broken::Blackhole, dice.millis(300, 6_000)),
    };
    if dice.below(2) == 0 {
        proxy.set(broken);
    } else {
        proxy.set_each(dice.below(u64::MAX), &[broken, Broken::None]);
    }
    tokio::time::sleep(time).await;
    proxy.set(Broken::None);
}
