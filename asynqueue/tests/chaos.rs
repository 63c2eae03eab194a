//! The counters match the tasks after workers were killed and Redis was restarted.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use asynqueue::{
    broker::SharedBroker,
    metrics::{Exporter, install},
    prelude::*,
};
use asynqueue_test_servers::{RedisServer, eventually};

/// The environment variable with the URL of Redis and the queue of a child.
const ENV: &str = "ASYNQUEUE_TEST_CHAOS";

const TASKS: usize = 1_500;

/// One in this many tasks fails at its first attempt.
const FAILS: u64 = 10;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "chaos", backoff = fixed("1ms"))]
struct Work {
    n: u64,
}

async fn work(task: Payload<Work>, ctx: Context) -> Result<(), TaskError> {
    tokio::time::sleep(Duration::from_millis(10)).await;
    match task.n.is_multiple_of(FAILS) && ctx.attempt() == 1 {
        true => Err(TaskError::retry("expected by the test")),
        false => Ok(()),
    }
}

async fn connect(redis: &RedisServer) -> SharedBroker {
    asynqueue::connect(&redis.url()).await.expect("a broker")
}

fn server(broker: SharedBroker, queue: &str) -> asynqueue::ServerBuilder {
    let server = Server::builder(broker).queue(queue.to_owned(), 1);
    server
        .lease(Duration::from_secs(2))
        .concurrency(8)
        .process(work)
}

/// A Redis that loses nothing it has acknowledged.
async fn redis() -> RedisServer {
    RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]).await
}

async fn enqueue(broker: &SharedBroker, queue: &str) {
    let producer = Producer::new(broker.clone());
    let tasks = (0..TASKS as u64).map(|n| Work { n });
    let results = producer.enqueue_many_with(tasks, |_, call| call.queue(queue.to_owned()));
    assert!(results.await.iter().all(Result::is_ok));
}

/// The sum of a metric's samples with all these labels.
fn sum(text: &str, metric: &str, labels: &[&str]) -> usize {
    let of_metric = text
        .lines()
        .filter(|line| line.split(['{', ' ']).next() == Some(metric));
    let labelled = of_metric.filter(|line| labels.iter().all(|label| line.contains(label)));
    let values = labelled.map(|line| line.rsplit(' ').next().expect("a value"));
    values
        .map(|value| value.parse::<f64>().expect("a number") as usize)
        .sum()
}

/// The exporter's text when the queue is empty.
async fn when_done(exporter: &Exporter, queue: &str) -> String {
    let queue = format!("queue=\"{queue}\"");
    eventually("all tasks are done", || async {
        let text = exporter.render().await;
        let is_up = sum(&text, "asynqueue_broker_up", &[]) == 1;
        is_up && sum(&text, "asynqueue_queue_size", &[&queue]) == 0
    })
    .await;
    exporter.render().await
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_match_the_tasks_over_restarts_of_redis() {
    let (mut redis, queue) = (redis().await, "restarts");
    let exporter = install().expect("installed");
    let broker = connect(&redis).await;
    enqueue(&broker, queue).await;
    let servers = [
        server(connect(&redis).await, queue)
            .start()
            .await
            .expect("a server"),
        server(connect(&redis).await, queue)
            .start()
            .await
            .expect("a server"),
    ];
    let exporter = exporter.broker(broker);
    for part in 1..=2 {
        let labels = [r#"queue="restarts""#, r#"outcome="completed""#];
        eventually("some tasks are done", || async {
            let done = sum(
                &exporter.render().await,
                "asynqueue_tasks_processed_total",
                &labels,
            );
            done > part * TASKS / 4
        })
        .await;
        redis.kill();
        redis.start_again().await;
    }
    when_done(&exporter, queue).await;
    for server in servers {
        server.shutdown().await.expect("ended in order");
    }

    let text = exporter.render().await;
    let of = |metric: &str, label: &str| sum(&text, metric, &[r#"queue="restarts""#, label]);
    let processed = |outcome: &str| {
        of(
            "asynqueue_tasks_processed_total",
            &format!("outcome=\"{outcome}\""),
        )
    };
    assert_eq!(
        of("asynqueue_tasks_enqueued_total", r#"result="accepted""#),
        TASKS
    );
    assert_eq!(processed("completed"), TASKS, "each once: {text}");
    assert_eq!(processed("archived"), 0);
    let failed = of("asynqueue_queue_failed_total", "");
    assert_eq!(processed("retried"), failed, "each failed attempt once");
    assert_eq!(of("asynqueue_queue_processed_total", ""), TASKS + failed);
    let reclaimed = of("asynqueue_tasks_reclaimed_total", "");
    assert!(failed <= TASKS / FAILS as usize + reclaimed, "{text}");
    assert!(
        sum(&text, "asynqueue_redis_reconnects_total", &[]) >= 2,
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_rejected_by_redis_are_counted() {
    let redis = RedisServer::with(&["--maxmemory", "3mb"]).await;
    let exporter = install().expect("installed");
    let producer = Producer::new(connect(&redis).await);
    #[derive(Serialize, Deserialize, Task)]
    #[task(event = "large")]
    struct Large(String);
    let large = || producer.enqueue(Large("x".repeat(500_000)));
    let mut accepted = 0;
    while large().await.is_ok() {
        accepted += 1;
        assert!(accepted < 20, "3 MB should be full");
    }
    let text = exporter.render().await;
    let enqueue = [r#"script="ENQUEUE""#];
    assert!(
        sum(&text, "asynqueue_redis_script_errors_total", &enqueue) >= 1,
        "{text}"
    );
    let failed = [r#"event="large""#, r#"result="failed""#];
    assert_eq!(sum(&text, "asynqueue_tasks_enqueued_total", &failed), 1);
}

/// The child process: a worker that serves its metrics until it is killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run as a child process of the test below"]
async fn child() {
    let variable = std::env::var(ENV).expect("where Redis is");
    let (url, queue) = variable.split_once(' ').expect("URL and queue");
    let endpoint = install()
        .expect("installed")
        .serve("127.0.0.1:0")
        .await
        .expect("served");
    let broker = asynqueue::connect(url).await.expect("a broker");
    let server = server(broker, queue).start().await.expect("a server");
    println!("http://{}/metrics", endpoint.address());
    std::future::pending::<()>().await;
    server.shutdown().await.expect("not reached");
}

/// A worker in its own process, and where it serves its metrics.
struct Worker {
    process: Child,
    url: String,
}

impl Worker {
    fn start(redis: &RedisServer, queue: &str) -> Self {
        let this = std::env::current_exe().expect("a path");
        let mut command = Command::new(this);
        command.args(["child", "--exact", "--ignored", "--nocapture"]);
        command
            .env(ENV, format!("{} {queue}", redis.url()))
            .stdout(Stdio::piped());
        let mut process = command.spawn().expect("runs");
        let mut output = BufReader::new(process.stdout.take().expect("its output")).lines();
        // The test runner prints a word before it.
        let url = output.find_map(|line| {
            let line = line.expect("text");
            line.find("http://").map(|at| line[at..].to_owned())
        });
        let url = url.expect("where it serves");
        Self { process, url }
    }

    async fn completed(&self) -> usize {
        let response = reqwest::get(&self.url).await.expect("a response");
        let text = response.text().await.expect("text");
        sum(
            &text,
            "asynqueue_tasks_processed_total",
            &[r#"outcome="completed""#],
        )
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // SIGKILL, as from the kernel's out-of-memory killer.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_of_the_broker_are_exact_when_workers_are_killed() {
    let (redis, queue) = (redis().await, "killed");
    let broker = connect(&redis).await;
    let exporter = install().expect("installed").broker(broker.clone());
    enqueue(&broker, queue).await;
    let mut seen = 0;
    for _ in 0..3 {
        let worker = Worker::start(&redis, queue);
        eventually("it has done some tasks", || async {
            worker.completed().await > 50
        })
        .await;
        seen += worker.completed().await;
        // Killed in the middle of its work.
        drop(worker);
    }
    let survivor = server(broker, queue).start().await.expect("a server");
    let text = when_done(&exporter, queue).await;
    survivor.shutdown().await.expect("ended in order");

    let of = |metric: &str, label: &str| sum(&text, metric, &[r#"queue="killed""#, label]);
    let failed = of("asynqueue_queue_failed_total", "");
    assert_eq!(
        of("asynqueue_queue_processed_total", ""),
        TASKS + failed,
        "{text}"
    );
    let (first, reclaimed) = (
        TASKS / FAILS as usize,
        of("asynqueue_tasks_reclaimed_total", ""),
    );
    assert!(reclaimed > 0, "some were lost with their worker");
    assert!(
        failed >= reclaimed && failed <= first + 3 * 16,
        "{failed} of {text}"
    );
    // The survivor and the scrapes before each kill count correctly; what killed workers counted after their last
    // scrape is lost.
    let completed = of("asynqueue_tasks_processed_total", r#"outcome="completed""#);
    assert!(completed + seen <= TASKS, "{completed} + {seen}");
    assert!(completed + seen > TASKS / 2, "{completed} + {seen}");
}
