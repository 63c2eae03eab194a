//! Several processes use one database. What one of them does, the others learn without polling.

mod common;

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{CancelOutcome, Control, Finished, Leased, Outcome, Signal, Store, all_of},
    process::{Payload, Progress},
    producer::Producer,
    server::Server,
    task::{Name, TaskState},
};
use asynqueue_macros::Task;
use asynqueue_postgres::PostgresBroker;
use asynqueue_test_servers::{Postgres, eventually};
use bytes::Bytes;
use common::{
    enqueue,
    process::{self, Process},
    task_ref,
};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize, Task)]
#[task(event = "double", crate = asynqueue_core, output = u64, retention = "1h")]
struct Double(u64);

/// What this binary does in other processes.
#[test]
#[ignore = "started by other tests"]
fn child() {
    let Some((role, url)) = process::role() else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.enable_all().build().expect("a runtime");
    match role.as_str() {
        "store" => runtime.block_on(call_as_requested(&url)),
        "server" => runtime.block_on(run_tasks(&url)),
        role => panic!("unknown role {role}"),
    }
}

/// In another process: runs tasks until the parent closes the pipe. It never polls.
async fn run_tasks(url: &str) {
    let double = async |task: Payload<Double>| Ok::<_, std::convert::Infallible>(2 * task.0.0);
    let server = Server::builder(common::open(url).await)
        .queue("default", 1)
        .poll_interval(Duration::from_secs(3_600))
        .process(double);
    let server = server.start().await.expect("a server");
    process::respond("ready");
    let ended = tokio::task::spawn_blocking(|| process::requests().count());
    ended.await.expect("the pipe is closed");
    server.shutdown().await.expect("ended in order");
}

/// In another process: calls the store as the parent requests.
async fn call_as_requested(url: &str) {
    let broker = common::open(url).await;
    let mut leased: Option<Leased> = None;
    let mut signals = None;
    process::respond("ready");
    for request in process::requests() {
        let (call, task) = request.split_once(' ').unwrap_or((&request, ""));
        let held = leased.clone().filter(|_| call != "lease");
        let response = match (call, held) {
            ("enqueue", _) => format!("{:?}", enqueue(&broker, task).await),
            ("listen", _) => {
                let queues = ["q".into()];
                signals = Some(Store::signals(&broker, &queues).await.expect("signals"));
                "listening".to_owned()
            }
            ("hear", _) => {
                let signals = signals.as_mut().expect("it listens");
                format!("{:?}", signals.next().await.expect("a signal"))
            }
            ("lease", _) => {
                leased = common::lease(&broker, 1).await.expect("a lease").pop();
                common::names(leased.as_slice()).concat()
            }
            ("extend", Some(held)) => {
                let extended = Store::extend(&broker, &[held.lease()], common::LIMIT).await;
                format!("{:?}", all_of(extended).expect("results")[0])
            }
            ("report", Some(held)) => {
                let report = vec![(held.lease(), Progress::new(3, 7, "sending"))];
                format!("{:?}", Store::report(&broker, report).await)
            }
            ("complete", Some(held)) => {
                let result = (!task.is_empty()).then(|| Bytes::from(task.to_owned()));
                let settled = common::settle(&broker, &held, Outcome::Complete { result }).await;
                format!("{:?}", settled.expect("a result"))
            }
            ("archive", Some(held)) => {
                let settled = common::settle(&broker, &held, Outcome::Archive).await;
                format!("{:?}", settled.expect("a result"))
            }
            ("drop", Some(held)) => {
                let settled = common::settle(&broker, &held, Outcome::Drop).await;
                format!("{:?}", settled.expect("a result"))
            }
            ("delete", _) => {
                let deleted = Store::delete_queue(&broker, &Name::from(task), true).await;
                format!("{deleted:?}")
            }
            (call, _) => panic!("unknown call {call}"),
        };
        process::respond(&response);
    }
    Store::close(&broker).await;
}

/// An empty schema, and this process's broker.
async fn start() -> (Arc<Postgres>, String, PostgresBroker) {
    let server = Postgres::shared().await;
    let url = server.new_schema();
    let broker = common::open(&url).await;
    (server, url, broker)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_process_runs_tasks_without_polling() {
    let (_server, url, broker) = start().await;
    let worker = Process::start("server", &url);
    let producer = Producer::new(broker);
    for n in 0..20 {
        let handle = producer.enqueue(Double(n)).await.expect("enqueued");
        let result = tokio::time::timeout(common::LIMIT, handle.result()).await;
        assert_eq!(result.expect("it runs").expect("completed"), 2 * n);
    }
    // A delayed task is due before the next poll too.
    let delayed = producer
        .enqueue(Double(50))
        .delay(Duration::from_millis(1_200));
    let handle = delayed.await.expect("enqueued");
    let result = tokio::time::timeout(common::LIMIT, handle.result()).await;
    assert_eq!(result.expect("it runs").expect("completed"), 100);
    worker.end();
}

#[tokio::test]
async fn an_idle_process_hears_of_tasks_of_another_one() {
    let (_server, url, broker) = start().await;
    let mut signals = Store::signals(&broker, &["q".into()])
        .await
        .expect("signals");
    let mut other = Process::start("store", &url);
    for task in ["one", "two"] {
        assert_eq!(other.call(&format!("enqueue {task}")), "Ok(())");
        let signal = tokio::time::timeout(common::LIMIT, signals.next()).await;
        assert_eq!(
            signal.expect("it is woken"),
            Some(Signal::Pending("q".into()))
        );
        assert_eq!(common::drain(&broker).await, [task]);
    }
    // And the other way round.
    assert_eq!(other.call("listen"), "listening");
    enqueue(&broker, "three").await.expect("a task");
    assert!(other.call("hear").starts_with("Pending"));
    assert_eq!(other.call("lease"), "three");
    other.end();
}

#[tokio::test]
async fn cancellation_reaches_the_process_that_runs_the_task() {
    let (_server, url, broker) = start().await;
    enqueue(&broker, "task").await.expect("a task");
    let mut worker = Process::start("store", &url);
    assert_eq!(worker.call("lease"), "task");
    assert_eq!(worker.call("listen"), "listening");
    assert_eq!(worker.call("extend"), "Yes");
    let cancelled = Control::cancel(&broker, &[task_ref("task")], "no longer needed").await;
    assert_eq!(cancelled.expect("results"), [CancelOutcome::Requested]);
    assert!(worker.call("hear").starts_with("Cancel"));
    assert_eq!(worker.call("extend"), "CancelRequested");
    worker.end();
}

#[tokio::test]
async fn a_result_of_another_process_arrives_with_and_without_retention() {
    let (_server, url, broker) = start().await;
    let mut worker = Process::start("store", &url);
    for (retention, result) in [(0, "done"), (0, ""), (60, "done"), (60, "")] {
        let mut task = common::task_of("task");
        let options = Arc::make_mut(&mut task.envelope.options);
        options.retention = Duration::from_secs(retention);
        let added = Store::enqueue(&broker, vec![task]).await.expect("results");
        added[0].as_ref().expect("a task");
        assert_eq!(worker.call("lease"), "task");
        let waiter = wait_in_the_tables(&broker, &url, "task").await;
        assert_eq!(worker.call(&format!("complete {result}")), "Recorded");
        let finished = waiter.await.expect("it ends");
        let Finished::Completed { result: found, .. } = finished else {
            panic!("retention {retention}, result {result:?}: {finished:?}");
        };
        assert_eq!(found.unwrap_or_default(), result.as_bytes());
        let deleted = Store::delete_queue(&broker, &"q".into(), true).await;
        assert!(deleted.expect("a result"));
    }
    worker.end();
}

/// Waits for a task's end. Returns once its worker knows of it.
async fn wait_in_the_tables(
    broker: &PostgresBroker,
    url: &str,
    task: &str,
) -> tokio::task::JoinHandle<Finished> {
    let (waiting, task) = (broker.clone(), task_ref(task));
    let waiter = tokio::spawn(async move { Store::finished(&waiting, &task).await });
    let client = Postgres::connect(url).await;
    eventually("the waiter has its row", async || {
        let rows = client.query_one("select count(*) from waiter", &[]).await;
        rows.expect("a row").get::<_, i64>(0) == 1
    })
    .await;
    tokio::spawn(async move { waiter.await.expect("it ends").expect("a result") })
}

#[tokio::test]
async fn the_end_of_an_archived_task_or_a_deleted_queue_reaches_a_waiter() {
    let (_server, url, broker) = start().await;
    let mut worker = Process::start("store", &url);
    enqueue(&broker, "task").await.expect("a task");
    assert_eq!(worker.call("lease"), "task");
    let waiter = wait_in_the_tables(&broker, &url, "task").await;
    assert_eq!(worker.call("archive"), "Recorded");
    let end = waiter.await.expect("it ends");
    assert!(matches!(end, Finished::Archived { .. }), "{end:?}");

    enqueue(&broker, "other").await.expect("a task");
    let waiter = wait_in_the_tables(&broker, &url, "other").await;
    assert_eq!(worker.call("delete q"), "Ok(true)");
    let end = waiter.await.expect("it ends");
    assert!(matches!(end, Finished::Gone), "{end:?}");
    worker.end();
}

#[tokio::test]
async fn the_result_of_a_former_task_with_the_same_id_reaches_no_waiter() {
    let (_server, url, broker) = start().await;
    let mut worker = Process::start("store", &url);
    for outcome in ["complete done", "drop"] {
        enqueue(&broker, "task").await.expect("a task");
        assert_eq!(worker.call("lease"), "task");
        let waiter = wait_in_the_tables(&broker, &url, "task").await;
        assert_eq!(worker.call(outcome), "Recorded");
        let end = waiter.await.expect("it ends");
        let is_gone = matches!(end, Finished::Gone);
        assert_eq!(is_gone, outcome == "drop", "{end:?}");
    }
    worker.end();
}

#[tokio::test]
async fn progress_is_visible_in_other_processes() {
    let (_server, url, broker) = start().await;
    enqueue(&broker, "task").await.expect("a task");
    let mut worker = Process::start("store", &url);
    assert_eq!(worker.call("lease"), "task");
    assert_eq!(worker.call("report"), "Ok(())");
    let tasks = Store::tasks(&broker, &[task_ref("task")]).await;
    let task = tasks.expect("results").remove(0).expect("a task");
    assert_eq!(task.state, TaskState::Active);
    assert_eq!(task.progress, Some(Progress::new(3, 7, "sending")));
    worker.end();
}
