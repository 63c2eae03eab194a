//! A call that panics, here in the clock of its broker, harms no other.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use asynqueue_core::{
    broker::Store,
    task::{Clock, SystemClock, Timestamp},
};
use asynqueue_sqlite::{SqliteBroker, SqliteOptions};

use crate::common::{self, Scratch};

/// Panics on the threads of the broker as often as this says.
#[derive(Clone, Debug, Default)]
struct BrokenClock(Arc<AtomicU64>);

impl Clock for BrokenClock {
    fn now(&self) -> Timestamp {
        let thread = std::thread::current();
        let is_broker = matches!(thread.name(), Some("asynqueue-write" | "asynqueue-read"));
        let break_once = |left: u64| left.checked_sub(1);
        if is_broker && self.0.fetch_update(SeqCst, SeqCst, break_once).is_ok() {
            panic!("the clock is broken");
        }
        SystemClock.now()
    }
}

const ERROR: &str = "unexpected response from the broker: the call panicked: the clock is broken";

#[tokio::test]
async fn a_panic_is_an_error_of_its_call_and_leaves_no_transaction_open() {
    let scratch = Scratch::new();
    let clock = BrokenClock::default();
    let options = SqliteOptions::file(scratch.file()).clock(clock.clone());
    let broker = SqliteBroker::connect(options).await.expect("a broker");
    let other = common::open(scratch.file()).await;
    // More often than there are threads.
    for n in 0..5 {
        clock.0.store(1, SeqCst);
        let error = common::enqueue(&broker, "refused")
            .await
            .expect_err("a panic");
        assert_eq!(error.to_string(), ERROR);
        clock.0.store(1, SeqCst);
        let error = broker.ping().await.expect_err("a panic");
        assert_eq!(error.to_string(), ERROR);
        assert_eq!(clock.0.load(SeqCst), 0);
        common::work(&other, &format!("other-{n}")).await;
        common::work(&broker, &format!("own-{n}")).await;
    }
    broker.close().await;
}

#[tokio::test]
async fn a_panic_in_a_joined_transaction_fails_none_of_the_others() {
    let scratch = Scratch::new();
    let clock = BrokenClock::default();
    let options = SqliteOptions::file(scratch.file()).clock(clock.clone());
    let broker = SqliteBroker::connect(options).await.expect("a broker");
    let names: Vec<_> = (0..100).map(|n| format!("task-{n:02}")).collect();
    // Once together and once alone, if they are joined.
    clock.0.store(2, SeqCst);
    let calls = names.iter().map(|name| common::enqueue(&broker, name));
    let results = futures_util::future::join_all(calls).await;
    let failed = results.iter().filter(|result| result.is_err()).count();
    assert!((1..=2).contains(&failed), "{failed}");
    assert_eq!(common::drain(&broker).await.len(), 100 - failed);
}
