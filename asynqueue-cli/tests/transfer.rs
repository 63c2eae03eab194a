//! `asynqueue move`, run as users run it: between real servers, and killed while workers run on both of them.

use std::{
    collections::BTreeMap,
    process::{Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use asynqueue::{
    Context, Payload, ProcessWrapper, Producer, Server, Task, TaskError,
    broker::{HourStats, NewTask, Page, SharedBroker, Space, TaskInfo, When},
    server::ServerHandle,
    task::{Name, TaskRef, TaskState},
};
use asynqueue_test_servers::{RedisCluster, RedisServer, eventually};
use serde::{Deserialize, Serialize};

fn command(from: &str, to: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_asynqueue"));
    command
        .args(["move", "--from", from, "--to", to])
        .args(more);
    command
}

async fn run(from: &str, to: &str, more: &[&str]) -> Output {
    let mut command = command(from, to, more);
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    output.expect("it returns").expect("it runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn connect(url: &str) -> SharedBroker {
    asynqueue::connect(url).await.expect("a connection")
}

/// A task of the load.
#[derive(Debug, Serialize, Deserialize, Task)]
#[task(event = "load", queue = "load", max_retry = 3, backoff = fixed("200ms"))]
struct Load {
    number: u64,
}

/// Counts the runs of each attempt.
#[derive(Clone, Default)]
struct Journal {
    runs: Arc<Mutex<BTreeMap<(u64, u32), u32>>>,
    succeeded: Arc<AtomicU64>,
}

impl Journal {
    async fn server(&self, broker: &SharedBroker) -> ServerHandle {
        let journal = self.clone();
        let handler = move |load: Payload<Load>, ctx: Context| {
            let journal = journal.clone();
            async move {
                let run = (load.number, ctx.attempt());
                *journal.runs.lock().expect("runs").entry(run).or_default() += 1;
                tokio::time::sleep(Duration::from_millis(load.number % 20)).await;
                // Some fail first, so that tasks wait for retries.
                if load.number.is_multiple_of(5) && ctx.attempt() == 1 {
                    return Err(TaskError::retry("the first attempt fails"));
                }
                journal.succeeded.fetch_add(1, SeqCst);
                Ok(())
            }
        };
        let server = Server::builder(broker.clone())
            .queue("load", 1)
            .concurrency(16)
            .process(ProcessWrapper::new(handler));
        server.start().await.expect("a server")
    }
}

/// Enqueues the load at the source of the move.
struct Source {
    producer: Producer,
    sent: AtomicU64,
}

impl Source {
    /// Enqueues tasks, each now or within the next two seconds.
    async fn send(&self, count: u64) {
        let first = self.sent.fetch_add(count, SeqCst);
        let later = |number: u64| Duration::from_millis(number % 7 * 300);
        let tasks = (first..first + count).map(|number| async move {
            let task = self.producer.enqueue(Load { number });
            task.delay(later(number)).await.expect("accepted");
        });
        futures_util::future::join_all(tasks).await;
    }
}

/// The process that last claimed the move, as the source stores it.
async fn claim(broker: &SharedBroker) -> Option<Vec<u8>> {
    let documents = broker
        .as_store()
        .document(Space::Moves, &["move".into()])
        .await;
    let document = documents.expect("documents").pop().flatten();
    document.map(|document| document.bytes.to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_is_killed_again_and_again_runs_each_task_once() {
    const KILLS: u64 = 10;
    let (old, new) = (RedisServer::start().await, RedisServer::start().await);
    let (source, target) = (connect(&old.url()).await, connect(&new.url()).await);
    let journal = Journal::default();
    let servers = [journal.server(&source).await, journal.server(&target).await];
    let load = Arc::new(Source {
        producer: Producer::new(source.clone()),
        sent: AtomicU64::new(0),
    });
    let is_over = Arc::new(AtomicBool::new(false));
    let producing = {
        let (load, is_over) = (Arc::clone(&load), Arc::clone(&is_over));
        tokio::spawn(async move {
            while !is_over.load(SeqCst) {
                load.send(20).await;
                tokio::time::sleep(Duration::from_millis(60)).await;
            }
        })
    };
    let mut killed = 0;
    for kill in 0..KILLS {
        load.send(3_000).await;
        let before = claim(&source).await;
        let mut moving = command(&old.url(), &new.url(), &[]);
        let mut moving = moving
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it runs");
        let mut has_ended = || moving.try_wait().expect("a state").is_some();
        eventually("the move is claimed", || {
            let is_over = has_ended();
            let (source, before) = (&source, &before);
            async move {
                let now = claim(source).await;
                is_over || (now.is_some() && now != *before)
            }
        })
        .await;
        let moment = Duration::from_millis(rand::random_range(0..15 * (kill + 1)));
        tokio::time::sleep(moment).await;
        killed += u64::from(moving.try_wait().expect("a state").is_none());
        moving.kill().expect("killed");
        moving.wait().expect("ended");
    }
    assert!(
        killed > KILLS / 3,
        "{killed} moves were killed, the others had ended"
    );
    is_over.store(true, SeqCst);
    producing.await.expect("it ends");
    let output = run(&old.url(), &new.url(), &[]).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(source.queues().await.expect("queues"), [] as [Name; 0]);
    let documents = source.as_store().documents(Space::Moves).await;
    assert_eq!(documents.expect("documents"), []);
    let sent = load.sent.load(SeqCst);
    eventually("all tasks have succeeded", async || {
        journal.succeeded.load(SeqCst) >= sent
    })
    .await;
    for server in servers {
        server.shutdown().await.expect("a shutdown");
    }
    let runs = journal.runs.lock().expect("runs").clone();
    let attempts = |number| if number % 5 == 0 { 2 } else { 1 };
    let expected = (0..sent).flat_map(|n| (1..=attempts(n)).map(move |attempt| ((n, attempt), 1)));
    let expected: BTreeMap<_, _> = expected.collect();
    let wrong: Vec<_> = runs
        .iter()
        .filter(|(run, n)| expected.get(run) != Some(n))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(runs.len(), expected.len());
    // Each outcome is counted once, wherever it was.
    let stats = target
        .stats(&["load".into()])
        .await
        .expect("figures")
        .remove(0);
    let failed = (0..sent).filter(|n| n % 5 == 0).count() as u64;
    assert_eq!((stats.succeeded, stats.failed), (sent, failed));
    assert_eq!(stats.total(), 0);
    let moved = target.as_store().documents(Space::Moves).await;
    assert_eq!(moved.expect("documents"), []);
}

fn new(number: u64, when: When) -> NewTask {
    let mut envelope = asynqueue::task::Envelope::new(
        asynqueue::task::TaskId::new(format!("task-{number}")).expect("an id"),
        "load",
        asynqueue::codec::CodecName::of::<asynqueue::MessagePack>(),
        rmp_serde::to_vec_named(&Load { number })
            .expect("encoded")
            .into(),
    );
    envelope.queue = "load".into();
    NewTask::new(envelope, when)
}

async fn fill(broker: &SharedBroker, count: u64) {
    let later = |number| When::After(Duration::from_secs(3_600 * (number % 3)));
    let tasks = (0..count)
        .map(|number| new(number, later(number)))
        .collect();
    let accepted = broker.enqueue(tasks).await.expect("accepted");
    assert!(accepted.iter().all(Result::is_ok));
}

/// All tasks by state and in the order of their lists, with the figures by hour.
async fn content(broker: &SharedBroker) -> (Vec<TaskInfo>, Vec<HourStats>) {
    let mut tasks = Vec::new();
    for state in TaskState::ALL {
        let page = broker
            .list(&"load".into(), state, Page::first(10_000))
            .await;
        tasks.extend(page.expect("a list").tasks);
    }
    let hours = broker.history(&["load".into()], Default::default()).await;
    (tasks, hours.expect("hours").remove(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_moves_to_a_cluster_in_its_state() {
    let (old, cluster) = (RedisServer::start().await, RedisCluster::start().await);
    let (source, target) = (connect(&old.url()).await, connect(&cluster.url()).await);
    fill(&source, 1_500).await;
    source
        .set_paused(&["load".into()], true)
        .await
        .expect("paused");
    let before = content(&source).await;
    assert_eq!(before.0.len(), 1_500);
    let output = run(&old.url(), &cluster.url(), &["--dry-run"]).await;
    let expected = "queue  to move\nload     1,500\ntotal    1,500\n\n\
                    active tasks to wait for: 0\nschedule entries: 0\nsubscribers: 0\n";
    assert_eq!(stdout(&output), expected, "{}", stderr(&output));
    assert_eq!(content(&source).await, before);
    let output = run(&old.url(), &cluster.url(), &[]).await;
    let expected =
        "queue  moved\nload   1,500\ntotal  1,500\n\nschedule entries: 0\nnew subscribers: 0\n";
    assert_eq!(stdout(&output), expected, "{}", stderr(&output));
    assert!(output.status.success());
    assert_eq!(content(&target).await, before);
    let stats = target
        .stats(&["load".into()])
        .await
        .expect("figures")
        .remove(0);
    assert!(stats.paused);
    assert_eq!(source.queues().await.expect("queues"), [] as [Name; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_is_an_error_that_names_it() {
    let (old, new) = (RedisServer::start().await, RedisServer::start().await);
    let (source, target) = (connect(&old.url()).await, connect(&new.url()).await);
    fill(&source, 3).await;
    fill(&target, 1).await;
    let output = run(&old.url(), &new.url(), &["--patience", "0"]).await;
    assert!(!output.status.success());
    let expected = "asynqueue: 1 item is left at the source: follow these lines, and start the same move again\n  \
                    task load/task-0: the target has another task with this id: delete one of the two\n";
    assert_eq!(stderr(&output), expected);
    let id = asynqueue::task::TaskId::new("task-0").expect("an id");
    source
        .delete(&[TaskRef::new("load", id)])
        .await
        .expect("deleted");
    let output = run(&old.url(), &new.url(), &[]).await;
    assert!(output.status.success(), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_broker_is_not_moved_to_itself() {
    let server = RedisServer::start().await;
    let url = server.url();
    let output = run(&url, &url, &[]).await;
    let expected =
        "asynqueue: `--from` and `--to` are the same URL: expected two different brokers\n";
    assert_eq!(stderr(&output), expected);
    // By another name.
    let output = run(&url, &format!("{url}/0"), &[]).await;
    assert!(!output.status.success());
    let expected = "asynqueue: source and target are the same store: expected two different ones";
    assert!(stderr(&output).starts_with(expected), "{}", stderr(&output));
    let output = run(&url, "memory:", &[]).await;
    let expected = "asynqueue: `--to` names a broker in the memory of this process: its tasks would be lost when \
                    the move ends\n";
    assert_eq!(stderr(&output), expected);
}
