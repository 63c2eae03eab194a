//! Histories of concurrent calls of several handles have an order in which each response of PostgreSQL is correct.
//!
//! | variable | default | |
//! |---|---|---|
//! | `ASYNQUEUE_HISTORIES` | 20 | how many histories to record and check |
//! | `ASYNQUEUE_HISTORY_SEED` | 1 | the seed of the first history; it increases by one for each |

mod patched;

use std::{sync::Arc, time::Instant};

use asynqueue_conformance::history::{self, Plan, Promises, Summary, Violation};
use asynqueue_core::testing::TestClock;
use asynqueue_postgres::{PostgresBroker, PostgresOptions};
use asynqueue_test_servers::Postgres;

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(value) => {
            (value.parse()).unwrap_or_else(|_| panic!("{name} is `{value}`: expected a number"))
        }
        Err(_) => default,
    }
}

/// The guarantees of PostgreSQL. A call locks single tasks: a lease passes over those that another call has locked, and
/// an outcome of an expired lease does not wait for them. Tasks take their place when their call starts to write, and
/// show when it commits. A batch looks for what refuses its tasks before it accepts the others.
const PROMISES: Promises = Promises {
    leases_at_once: true,
    leases_in_order: false,
    places_at_once: false,
    waits_for_holders: false,
    leases_whole_within: std::time::Duration::MAX,
    refuses_in_order: false,
    extends_once: true,
};

/// Three handles on an empty store, as three processes have them.
async fn handles(url: &str) -> Vec<Arc<PostgresBroker>> {
    let clock = TestClock::default();
    let mut handles = Vec::new();
    for _ in 0..3 {
        let options = PostgresOptions::new(url).expect("a valid URL");
        let broker = PostgresBroker::connect(options.clock(clock.clone())).await;
        handles.push(Arc::new(broker.expect("a broker")));
    }
    handles
}

/// The minimum of calls in a history that is recorded again.
const FEWEST_CALLS: usize = 12;

/// Checks a history. An undecided one is recorded again with half as many calls: on a busy machine, more of them overlap.
async fn decide(server: &Postgres, seed: u64) -> Result<Summary, Violation> {
    let mut plan = Plan::new(seed).promises(PROMISES);
    loop {
        let handles = handles(&server.new_schema()).await;
        let judged = history::check_store(&handles, &plan, &()).await;
        plan.operations /= 2;
        let is_undecided = judged.as_ref().is_err_and(Violation::is_undecided);
        if !is_undecided || plan.operations < FEWEST_CALLS {
            return judged;
        }
        println!("the history of seed {seed} is undecided: recorded again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_calls_of_several_handles_have_an_order() {
    let server = Postgres::shared().await;
    let first = number("ASYNQUEUE_HISTORY_SEED", 1);
    let count = number("ASYNQUEUE_HISTORIES", 20);
    let (started, mut calls, mut tries, mut most) = (Instant::now(), 0, 0, 0);
    for seed in first..first + count {
        let summary = match decide(&server, seed).await {
            Ok(summary) => summary,
            Err(violation) => panic!("the history of seed {seed}\n{violation}"),
        };
        assert_eq!(summary.unanswered, 0, "without faults, every call returns");
        calls += summary.calls;
        tries += summary.tries;
        most = summary.tries.max(most);
    }
    let seconds = started.elapsed().as_secs();
    println!(
        "histories: {count}\ncalls: {calls}\ntries: {tries}, at most {most}\nseconds: {seconds}"
    );
}
