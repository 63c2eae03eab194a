//! Faults between clients and Redis.

use std::time::Duration;

use asynqueue_test_servers::{Fault, Proxy};
use futures_util::future::join_all;

/// Pseudo-random numbers from a seed (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }

    fn fault(&mut self) -> Fault {
        match self.below(6) {
            0 => Fault::Delay(self.millis(1, 20)),
            1 => Fault::CutReplies,
            2 => Fault::SwallowReplies,
            3 => Fault::Hold,
            4 => Fault::Blackhole,
            _ => Fault::Late(self.millis(5, 120)),
        }
    }
}

/// Breaks each proxy independently, with pauses in between. Does not end.
pub(crate) async fn strike(proxies: &[Proxy], seed: u64) {
    let strike = |(place, proxy)| strike_one(proxy, seed.wrapping_mul(16).wrapping_add(place));
    join_all((0..).zip(proxies).map(strike)).await;
}

async fn strike_one(proxy: &Proxy, seed: u64) {
    let mut random = Random::new(seed);
    loop {
        tokio::time::sleep(random.millis(2, 40)).await;
        proxy.set(random.fault());
        tokio::time::sleep(random.millis(2, 40)).await;
        proxy.set(Fault::None);
    }
}
