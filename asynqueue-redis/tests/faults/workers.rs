//! Workers that are killed or hang.

use std::{
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use asynqueue_core::{
    broker::{Broker, Fleet, Inspect},
    process::{Context, Payload, TaskError},
    producer::Producer,
    server::Server,
};
use asynqueue_redis::RedisBroker;
use asynqueue_test_servers::{RedisServer, eventually};
use redis::{AsyncCommands, aio::MultiplexedConnection, cmd};

use super::{
    common,
    load::{QUEUE, Work, send},
};

/// The variable with the URL of Redis for the child.
const ENV: &str = "ASYNQUEUE_TEST_REDIS";

const LEASE: Duration = Duration::from_secs(2);

/// The child: a worker that notes in Redis, apart from the broker, which process runs what.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run as a child of the tests below"]
async fn work() {
    let url = std::env::var(ENV).expect("where Redis is");
    let broker = common::connect(&url).await;
    let client = redis::Client::open(url).expect("a URL");
    let notes = client
        .get_multiplexed_async_connection()
        .await
        .expect("a connection");
    let mut figures = notes.clone();
    let process = move |task: Payload<Work>, _: Context| {
        let mut notes = notes.clone();
        async move {
            begin(&mut notes, task.n).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
            end(&mut notes, task.n).await;
            Ok::<_, TaskError>(())
        }
    };
    let server = Server::builder(broker)
        .queue(QUEUE, 1)
        .concurrency(4)
        .lease(LEASE)
        .process(process);
    let server = server.start().await.expect("a server");
    println!("working");
    // Until the parent closes its end of the pipe.
    let closed = tokio::task::spawn_blocking(|| std::io::stdin().lines().count());
    let noting = async {
        loop {
            let _: Result<(), _> = figures
                .set(stale(std::process::id()), server.stats().stale)
                .await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        closed = closed => drop(closed.expect("read")),
        () = noting => {}
    }
    println!("stale {}", server.stats().stale);
    server.shutdown().await.expect("ended in order");
    println!("ended");
}

/// Notes that this process runs the task, and whether another live process does too.
async fn begin(notes: &mut MultiplexedConnection, n: usize) {
    let me = std::process::id();
    let mut swap = cmd("SET");
    swap.arg(format!("runs:{n}")).arg(me).arg("GET");
    let before: Option<u32> = swap.query_async(notes).await.expect("noted");
    if before.is_some_and(|other| other != me && is_running(other)) {
        let _: i64 = notes.incr("overlaps", 1).await.expect("noted");
    }
    let _: i64 = notes.incr(started(me), 1).await.expect("noted");
}

/// Counts the refused outcomes of a process.
fn stale(process: u32) -> String {
    format!("stale:{process}")
}

/// Counts the tasks that a process has started.
fn started(process: u32) -> String {
    format!("started:{process}")
}

async fn end(notes: &mut MultiplexedConnection, n: usize) {
    let _: () = notes.del(format!("runs:{n}")).await.expect("noted");
    let _: () = notes.sadd("done", n).await.expect("noted");
}

/// Whether a process exists and is not stopped: another has to take over the tasks of a stopped one.
fn is_running(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.split_whitespace().next());
    matches!(state, Some("R" | "S" | "D"))
}

struct Worker {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    fn start(url: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--ignored", "--exact", "--nocapture", "workers::work"])
            .env(ENV, url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut worker = Self { child, lines };
        worker.wait_for("working");
        worker
    }

    /// Waits for a line with this prefix, and returns the rest.
    fn wait_for(&mut self, prefix: &str) -> String {
        let found = self.lines.find_map(|line| {
            let line = line.expect("a line");
            line.find(prefix)
                .map(|at| line[at + prefix.len()..].trim().to_owned())
        });
        found.unwrap_or_else(|| panic!("the worker ended before it printed `{prefix}`"))
    }

    /// Waits until it has started a task.
    async fn has_started(&self, notes: &MultiplexedConnection) {
        let key = started(self.child.id());
        eventually("it has started a task", || async {
            count(notes, &key).await > 0
        })
        .await;
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill")
            .args(["-s", signal, &id])
            .status()
            .expect("kill");
        assert!(sent.success());
    }

    fn kill(mut self) {
        self.signal("KILL");
        self.child.wait().expect("its end");
    }

    /// Lets it end in order. Returns how many of its outcomes were refused.
    fn end(mut self) -> u64 {
        drop(self.child.stdin.take());
        let stale = self.wait_for("stale ").parse().expect("a number");
        self.wait_for("ended");
        assert!(self.child.wait().expect("its end").success());
        stale
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn count(notes: &MultiplexedConnection, key: &str) -> u64 {
    let count: Option<u64> = notes.clone().get(key).await.expect("a number");
    count.unwrap_or_default()
}

async fn done(notes: &MultiplexedConnection) -> usize {
    notes.clone().scard("done").await.expect("a number")
}

async fn fill(broker: &RedisBroker, tasks: std::ops::Range<usize>) {
    let producer = Producer::new(broker.clone());
    for n in tasks {
        send(&producer, n).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_workers_killed_at_work_lose_nothing() {
    let server = RedisServer::start().await;
    let (broker, notes) = (
        common::connect(&server.url()).await,
        server.connection().await,
    );
    let steady = Worker::start(&server.url());
    let mut sent = 0;
    for _ in 0..50 {
        let victim = Worker::start(&server.url());
        // However long it takes to start, there is more work than the other can do.
        let started_some = async {
            while count(&notes, &started(victim.child.id())).await == 0 {
                if sent - done(&notes).await < 20 {
                    fill(&broker, sent..sent + 40).await;
                    sent += 40;
                }
            }
        };
        let started_some = tokio::time::timeout(Duration::from_secs(30), started_some);
        started_some.await.expect("it starts a task");
        victim.kill();
    }
    eventually("all is done", || async { done(&notes).await == sent }).await;
    assert_eq!(count(&notes, "overlaps").await, 0);
    eventually("the killed workers are known to be lost", || async {
        let servers = broker.servers().await.expect("servers");
        let lost = servers.iter().filter(|one| one.is_lost(broker.now()));
        lost.count() > 0 && servers.iter().any(|one| !one.is_lost(broker.now()))
    })
    .await;
    eventually("the queue is empty", || async {
        broker.stats(&[QUEUE.into()]).await.expect("stats")[0].total() == 0
    })
    .await;
    assert_eq!(steady.end(), 0);
}

/// Another worker has taken over its tasks, and its outcomes are refused.
#[tokio::test(flavor = "multi_thread")]
async fn the_outcomes_of_a_worker_that_hung_for_longer_than_its_lease_are_refused() {
    const TASKS: usize = 400;
    let server = RedisServer::start().await;
    let (broker, notes) = (
        common::connect(&server.url()).await,
        server.connection().await,
    );
    let zombie = Worker::start(&server.url());
    fill(&broker, 0..TASKS).await;
    zombie.has_started(&notes).await;
    zombie.signal("STOP");
    let other = Worker::start(&server.url());
    eventually("the other takes all over", || async {
        done(&notes).await == TASKS
    })
    .await;
    eventually("all is recorded", || async {
        broker.stats(&[QUEUE.into()]).await.expect("stats")[0].total() == 0
    })
    .await;
    zombie.signal("CONT");
    // It finds out by its outcomes, or when it extends its leases.
    fill(&broker, TASKS..TASKS + 20).await;
    eventually("the rest is done", || async {
        done(&notes).await == TASKS + 20
    })
    .await;
    let stale = stale(zombie.child.id());
    let is_refused = || async { count(&notes, &stale).await > 0 };
    eventually("its outcomes are refused", is_refused).await;
    zombie.end();
    assert_eq!(other.end(), 0);
    assert_eq!(count(&notes, "overlaps").await, 0);
    assert!(broker.now().as_millis() > 0);
}
