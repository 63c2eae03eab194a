//! SIGKILL at random moments: a process enqueues, leases and settles on a file and prints each acknowledgement. After
//! its death everything it was promised is in the file.
//!
//! | variable | default | |
//! |---|---|---|
//! | `ASYNQUEUE_KILLS` | 12 | how many processes are killed, one after the other on the same file |
//! | `ASYNQUEUE_KILLS_SEED` | random | the seed of the moments and of the calls |

mod child;
mod ledger;
#[path = "../tables/mod.rs"]
mod tables;

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use asynqueue_conformance::chaos::Dice;
use asynqueue_core::{
    broker::{Outcome, Page, SharedBroker, all_of},
    task::{Name, TaskRef, TaskState},
};
use asynqueue_sqlite::{SqliteBroker, SqliteOptions};

use self::ledger::Ledger;

/// The queues of all tasks.
const QUEUES: [&str; 2] = ["north", "south"];

/// How many lines a process prints at most before it is killed.
const MOST_LINES: u64 = 400;

/// How many tasks of one state or lease are read or settled at a time.
const PART: usize = 500;

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(value) => {
            (value.parse()).unwrap_or_else(|_| panic!("{name} is `{value}`: expected a number"))
        }
        Err(_) => default,
    }
}

async fn connect(path: &Path) -> SharedBroker {
    let options = SqliteOptions::file(path);
    SqliteBroker::connect(options)
        .await
        .expect("the file opens")
        .into()
}

fn queues() -> Vec<Name> {
    QUEUES.map(Name::from).to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "run as a child of the test below"]
async fn a_process_that_is_killed() {
    if let (Ok(path), Ok(round)) = (std::env::var(child::PATH), std::env::var(child::ROUND)) {
        child::run(&PathBuf::from(path), &round, number(child::SEED, 0)).await;
    }
}

/// Starts a process, kills it at a random moment, and returns what it has printed.
fn killed(path: &Path, round: u64, dice: &mut Dice) -> Vec<String> {
    let this = std::env::current_exe().expect("this program");
    let mut process = Command::new(this)
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "a_process_that_is_killed",
        ])
        .env(child::PATH, path)
        .env(child::ROUND, round.to_string())
        .env(child::SEED, dice.below(1 << 32).to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    let printed = BufReader::new(process.stdout.take().expect("its output"));
    let lines = printed.lines().map_while(Result::ok);
    let mut lines = lines.filter_map(|line| Some(line.strip_prefix(child::MARK)?.to_owned()));
    // One in eight is killed while it opens the file.
    let last = if dice.below(8) == 0 {
        1
    } else {
        2 + dice.below(MOST_LINES)
    };
    let mut all: Vec<_> = lines.by_ref().take(last as usize).collect();
    assert_eq!(
        all.len() as u64,
        last,
        "process {round} ended by itself after {all:#?}"
    );
    // Any moment between two acknowledgements.
    std::thread::sleep(Duration::from_micros(dice.below(5_000)));
    process.kill().expect("it still runs");
    all.extend(lines);
    let ended = process.wait().expect("it has ended");
    assert!(!ended.success(), "process {round} ended by itself");
    all
}

/// All tasks with their states. A task with two states is a violation.
async fn found(broker: &SharedBroker) -> Vec<(String, TaskState)> {
    let mut found = Vec::new();
    for queue in queues() {
        for state in TaskState::ALL {
            let mut after = None;
            loop {
                let page = Page::first(PART).after(after);
                let page = broker.list(&queue, state, page).await.expect("a page");
                let ids = page.tasks.iter().map(|task| task.envelope.id.to_string());
                found.extend(ids.map(|id| (id, state)));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
    }
    found
}

/// The counters of a state, over all queues.
async fn counted(broker: &SharedBroker, state: TaskState) -> u64 {
    let stats = broker.stats(&queues()).await.expect("figures");
    stats.iter().map(|stats| stats.count(state)).sum()
}

/// Releases what a dead process had leased.
async fn release_leases(broker: &SharedBroker) {
    let far = broker.now() + 2 * child::LEASE;
    loop {
        let leased = all_of(broker.expired(&queues(), far, PART).await)
            .expect("leases")
            .concat();
        if leased.is_empty() {
            return;
        }
        let released = leased
            .into_iter()
            .map(|lease| lease.settle(Outcome::Release));
        let released: Vec<_> = released.collect();
        all_of(broker.settle(&released).await).expect("released");
    }
}

/// Checks the file after a death, and prepares it for the next process.
async fn check(path: &Path, broker: &SharedBroker, ledger: &mut Ledger, round: u64) {
    let mut wrong = tables::problems(&tables::open(path));
    let found = found(broker).await;
    for state in TaskState::ALL {
        let (counted, listed) = (
            counted(broker, state).await,
            of(&found, state).count() as u64,
        );
        if counted != listed {
            wrong.push(format!(
                "{counted} tasks are counted as {state}, but {listed} listed"
            ));
        }
    }
    wrong.extend(ledger.compare(&found, round));
    assert!(
        wrong.is_empty(),
        "after the death of process {round}: {wrong:#?}"
    );
    release_leases(broker).await;
    // Finished tasks are deleted, so that the file stays small.
    let queue = |id: &str| Name::from(QUEUES[child::place_of(id)]);
    let done = [TaskState::Completed, TaskState::Archived, TaskState::Retry];
    let done = done.iter().flat_map(|state| of(&found, *state));
    let done: Vec<_> = done
        .map(|id| TaskRef::new(queue(id), id.parse().expect("an id")))
        .collect();
    for part in done.chunks(PART) {
        let deleted = broker.delete(part).await.expect("deleted");
        assert!(
            deleted.iter().all(|deleted| *deleted),
            "each of {part:?} existed"
        );
    }
    ledger.forget(done.iter().map(|task| task.id.as_str()));
}

fn of(found: &[(String, TaskState)], state: TaskState) -> impl Iterator<Item = &str> {
    let of = found.iter().filter(move |(_, found)| *found == state);
    of.map(|(id, _)| id.as_str())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_killed_process_loses_nothing_that_was_acknowledged() {
    let (kills, seed) = (
        number("ASYNQUEUE_KILLS", 12),
        number("ASYNQUEUE_KILLS_SEED", random()),
    );
    println!("ASYNQUEUE_KILLS={kills} ASYNQUEUE_KILLS_SEED={seed}");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = Arc::new(folder.path().join("tasks.db"));
    let (mut dice, mut ledger) = (Dice::new(seed, "killed"), Ledger::default());
    for round in 0..kills {
        // In every second round this process uses the file too. In the others the next one to open it recovers it.
        let peer = if round % 2 == 1 {
            Some(connect(&path).await)
        } else {
            None
        };
        let (file, mut own) = (Arc::clone(&path), dice.clone());
        let lines = tokio::task::spawn_blocking(move || (killed(&file, round, &mut own), own));
        let (lines, rolled) = lines.await.expect("killed");
        dice = rolled;
        ledger.read(&lines);
        let broker = match peer {
            Some(peer) => peer,
            None => connect(&path).await,
        };
        check(&path, &broker, &mut ledger, round).await;
    }
    println!("{ledger}");
    assert!(
        ledger.has_everything(),
        "each kind of call was acknowledged:\n{ledger}"
    );
}

/// A seed.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) >> 32
}
