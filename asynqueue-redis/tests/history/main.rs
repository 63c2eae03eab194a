//! Histories of concurrent calls over breaking connections have an order in which each response of Redis is correct.
//!
//! | variable | default | |
//! |---|---|---|
//! | `ASYNQUEUE_HISTORY` | `single` | one Redis; `cluster` is three masters, each with a replica |
//! | `ASYNQUEUE_HISTORIES` | 16 | how many histories to record and check |
//! | `ASYNQUEUE_HISTORY_SEED` | 1 | the seed of the first history; it increases by one for each |

mod faults;
mod patched;
mod stage;
mod total;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use asynqueue_conformance::history::{self, History, Plan, Promises, Summary, Violation};
use tokio::task::JoinSet;

use self::{
    stage::{RETRY_FOR, Stage, Store},
    total::Total,
};

/// How many histories are recorded concurrently.
const MAX_CONCURRENT: usize = 6;

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(value) => {
            (value.parse()).unwrap_or_else(|_| panic!("{name} is `{value}`: expected a number"))
        }
        Err(_) => default,
    }
}

/// The guarantees of Redis. A lease call sends one request after the other until it has enough, and each leases under a
/// separate token. A later request that fails was retried for at least a third of the retry time. On a busy machine,
/// calls take longer than that, and less is required of them. A repeated extension takes effect again.
fn promises() -> Promises {
    Promises {
        leases_at_once: false,
        leases_whole_within: RETRY_FOR / 3,
        extends_once: false,
        ..Promises::default()
    }
}

/// A history, and whether it has an order.
type Judged = (History, Result<Summary, Violation>);

/// The plan of a seed, in which one call in ten is cut off.
fn plan(seed: u64) -> Plan {
    Plan::new(seed).cut_off(Duration::from_millis(20))
}

/// Records and checks a history.
async fn judge(stage: &Stage, plan: &Plan) -> Judged {
    let handles = stage.handles().await;
    let history = history::record(&handles, plan, stage).await;
    let judging = tokio::task::spawn_blocking(move || {
        let judged = history.judge(&promises());
        (history, judged)
    });
    judging.await.expect("the judge does not panic")
}

/// The minimum of calls in a history that is recorded again.
const FEWEST_CALLS: usize = 12;

/// Checks a history. An undecided one is recorded again with half as many calls: on a busy machine, many calls get no
/// response. Also returns whether that was necessary.
async fn decide(stage: &Stage, seed: u64) -> (bool, Judged) {
    let mut plan = plan(seed);
    let mut is_shortened = false;
    loop {
        let judged = judge(stage, &plan).await;
        let is_undecided = judged.1.as_ref().is_err_and(Violation::is_undecided);
        plan.operations /= 2;
        if !is_undecided || plan.operations < FEWEST_CALLS {
            return (is_shortened, judged);
        }
        is_shortened = true;
    }
}

/// Where to write a history without an order.
fn report(seed: u64) -> PathBuf {
    std::env::temp_dir().join(format!("asynqueue-history-{seed}.txt"))
}

/// Checks histories with these seeds, several concurrently.
async fn judge_all(stages: Vec<Stage>, first: u64, count: u64) -> Total {
    let mut running = JoinSet::new();
    let (mut seeds, mut idle, mut total) = (first..first + count, stages, Total::default());
    loop {
        while !idle.is_empty()
            && let Some(seed) = seeds.next()
            && let Some(stage) = idle.pop()
        {
            running.spawn(async move {
                let judged = decide(&stage, seed).await;
                (stage, seed, judged)
            });
        }
        let Some(ended) = running.join_next().await else {
            idle.iter().for_each(|stage| total.add_faults(stage));
            return total;
        };
        let (stage, seed, (is_shortened, (history, judged))) = ended.expect("no panic");
        total.shortened += usize::from(is_shortened);
        match judged {
            Ok(summary) => {
                total.add(&history, &summary);
                if total.histories.is_multiple_of(100) {
                    println!("{} histories have an order", total.histories);
                }
            }
            Err(violation) if violation.is_undecided() => total.undecided += 1,
            Err(violation) => {
                let path = report(seed);
                std::fs::write(&path, violation.to_string()).expect("a file");
                panic!(
                    "the history of seed {seed}, also in {}\n{violation}",
                    path.display()
                );
            }
        }
        idle.push(stage);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_calls_through_breaking_connections_have_an_order() {
    let is_cluster = std::env::var("ASYNQUEUE_HISTORY").is_ok_and(|value| value == "cluster");
    let store = Store::start(is_cluster).await;
    let mut stages = Vec::new();
    for _ in 0..if is_cluster { 1 } else { MAX_CONCURRENT } {
        stages.push(Stage::start(&store).await);
    }
    let first = number("ASYNQUEUE_HISTORY_SEED", 1);
    let started = Instant::now();
    let total = judge_all(stages, first, number("ASYNQUEUE_HISTORIES", 16)).await;
    println!("{total}\nseconds: {}", started.elapsed().as_secs());
    assert!(
        total.has_faults(),
        "faults occur, and some calls still get a response:\n{total}"
    );
}
