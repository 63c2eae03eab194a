//! Several processes use one file. What one of them does, the others learn without polling.

mod common;

use std::{fs, path::Path};

use asynqueue_core::{
    broker::{CancelOutcome, Control, Finished, Leased, Outcome, Signal, Store, all_of},
    process::Progress,
    task::{Name, TaskState},
};
use asynqueue_sqlite::{SqliteBroker, SqliteOptions};
use bytes::Bytes;
use common::{
    Scratch, enqueue, enqueue_in,
    process::{self, Process},
    task_ref,
};
use futures_util::StreamExt;

/// What this binary does in other processes.
#[test]
#[ignore = "started by other tests"]
fn child() {
    let Some((role, file)) = process::role() else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.enable_all().build().expect("a runtime");
    match role.as_str() {
        "store" => runtime.block_on(serve(&file)),
        "busy" => runtime.block_on(be_busy(&file)),
        role => panic!("unknown role {role}"),
    }
}

/// In another process: calls the store as the parent requests.
async fn serve(file: &Path) {
    let broker = common::open(file).await;
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
                let lease = std::time::Duration::from_secs(60);
                let extended = Store::extend(&broker, &[held.lease()], lease).await;
                format!("{:?}", all_of(extended).expect("results")[0])
            }
            ("report", Some(held)) => {
                let report = vec![(held.lease(), Progress::new(3, 7, "sending"))];
                format!("{:?}", Store::report(&broker, report).await)
            }
            ("complete", Some(held)) => {
                let result = (!task.is_empty()).then(|| Bytes::from(task.to_owned()));
                let settlement = held.settle(Outcome::Complete { result });
                let settled = all_of(Store::settle(&broker, &[settlement]).await);
                format!("{:?}", settled.expect("results")[0])
            }
            ("archive", Some(held)) => {
                let settled =
                    all_of(Store::settle(&broker, &[held.settle(Outcome::Archive)]).await);
                format!("{:?}", settled.expect("results")[0])
            }
            ("drop", Some(held)) => {
                let settled = all_of(Store::settle(&broker, &[held.settle(Outcome::Drop)]).await);
                format!("{:?}", settled.expect("results")[0])
            }
            ("delete", _) => {
                format!(
                    "{:?}",
                    Store::delete_queue(&broker, &Name::from(task), true).await
                )
            }
            (call, _) => panic!("unknown call {call}"),
        };
        process::respond(&response);
    }
    Store::close(&broker).await;
}

#[tokio::test]
async fn an_idle_process_hears_of_tasks_of_another_one() {
    let scratch = Scratch::new();
    let broker = common::open(scratch.file()).await;
    let mut signals = Store::signals(&broker, &["q".into()])
        .await
        .expect("signals");
    let mut other = Process::start("store", &scratch.file());
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
    let scratch = Scratch::new();
    let broker = common::open(scratch.file()).await;
    enqueue(&broker, "task").await.expect("a task");
    let mut worker = Process::start("store", &scratch.file());
    assert_eq!(worker.call("listen"), "listening");
    assert_eq!(worker.call("lease"), "task");
    assert_eq!(worker.call("extend"), "Yes");
    let cancelled = Control::cancel(&broker, &[task_ref("q", "task")], "no longer needed").await;
    assert_eq!(cancelled.expect("results"), [CancelOutcome::Requested]);
    assert!(worker.call("hear").starts_with("Cancel"));
    assert_eq!(worker.call("extend"), "CancelRequested");
    worker.end();
}

#[tokio::test]
async fn a_result_of_another_process_arrives_with_and_without_retention() {
    let scratch = Scratch::new();
    let broker = common::open(scratch.file()).await;
    let mut worker = Process::start("store", &scratch.file());
    for (retention, result) in [(0, "done"), (0, ""), (60, "done"), (60, "")] {
        let mut task = common::task_of("q", "task", 10);
        let options = std::sync::Arc::make_mut(&mut task.envelope.options);
        options.retention = std::time::Duration::from_secs(retention);
        let added = Store::enqueue(&broker, vec![task]).await.expect("results");
        added[0].as_ref().expect("a task");
        assert_eq!(worker.call("lease"), "task");
        let waiter = wait_in_the_tables(&broker, &scratch.file(), "task").await;
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
    broker: &SqliteBroker,
    file: &Path,
    task: &str,
) -> tokio::task::JoinHandle<Finished> {
    let (waiting, task) = (broker.clone(), task_ref("q", task));
    let waiter = tokio::spawn(async move { Store::finished(&waiting, &task).await });
    let program = common::program(file);
    common::eventually("the waiter has its row", async || {
        let rows = "select count(*) from asynqueue_waiter";
        program.query_row(rows, [], |row| row.get::<_, i64>(0)) == Ok(1)
    })
    .await;
    tokio::spawn(async move { waiter.await.expect("it ends").expect("a result") })
}

#[tokio::test]
async fn the_end_of_an_archived_task_or_a_deleted_queue_reaches_a_waiter() {
    let scratch = Scratch::new();
    let broker = common::open(scratch.file()).await;
    let mut worker = Process::start("store", &scratch.file());
    enqueue(&broker, "task").await.expect("a task");
    assert_eq!(worker.call("lease"), "task");
    let waiter = wait_in_the_tables(&broker, &scratch.file(), "task").await;
    assert_eq!(worker.call("archive"), "Recorded");
    assert!(matches!(
        waiter.await.expect("it ends"),
        Finished::Archived { .. }
    ));

    enqueue(&broker, "other").await.expect("a task");
    let waiter = wait_in_the_tables(&broker, &scratch.file(), "other").await;
    assert_eq!(worker.call("delete q"), "Ok(true)");
    assert!(matches!(waiter.await.expect("it ends"), Finished::Gone));
    worker.end();
}

#[tokio::test]
async fn the_result_of_a_former_task_with_the_same_id_reaches_no_waiter() {
    let scratch = Scratch::new();
    let broker = common::open(scratch.file()).await;
    let mut worker = Process::start("store", &scratch.file());
    for outcome in ["complete done", "drop"] {
        enqueue(&broker, "task").await.expect("a task");
        assert_eq!(worker.call("lease"), "task");
        let waiter = wait_in_the_tables(&broker, &scratch.file(), "task").await;
        assert_eq!(worker.call(outcome), "Recorded");
        let end = waiter.await.expect("it ends");
        let is_gone = matches!(end, Finished::Gone);
        assert_eq!(is_gone, outcome == "drop", "{end:?}");
    }
    worker.end();
}

#[tokio::test]
async fn progress_is_visible_in_other_processes() {
    let scratch = Scratch::new();
    let broker = common::open(scratch.file()).await;
    enqueue(&broker, "task").await.expect("a task");
    let mut worker = Process::start("store", &scratch.file());
    assert_eq!(worker.call("lease"), "task");
    assert_eq!(worker.call("report"), "Ok(())");
    let tasks = Store::tasks(&broker, &[task_ref("q", "task")]).await;
    let task = tasks.expect("results").remove(0).expect("a task");
    assert_eq!(task.state, TaskState::Active);
    assert_eq!(task.progress, Some(Progress::new(3, 7, "sending")));
    worker.end();
}

/// The sockets of processes that listen.
fn sockets(scratch: &Scratch) -> Vec<String> {
    let live = fs::read_dir(scratch.folder().join("tasks.db-live")).expect("a folder");
    let names = live.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.ends_with(".wake")).collect()
}

#[tokio::test]
async fn the_socket_of_a_dead_process_is_removed() {
    let scratch = Scratch::new();
    let broker = common::open(scratch.file()).await;
    let mut other = Process::start("store", &scratch.file());
    assert_eq!(other.call("listen"), "listening");
    let prefix = format!("{}-", other.id());
    assert!(sockets(&scratch)[0].starts_with(&prefix));
    other.signal("KILL");
    let mut tasks = 0;
    common::eventually("the socket is gone", async || {
        tasks += 1;
        let (queue, task) = (format!("queue-{tasks}"), "task");
        enqueue_in(&broker, &queue, task, 10).await.expect("a task");
        sockets(&scratch).is_empty()
    })
    .await;
}

/// How many changes a busy process makes at least.
const CHANGES: usize = 300;

/// In another process: enqueues without a pause, until the parent closes the pipe.
async fn be_busy(file: &Path) {
    let options = SqliteOptions::file(file).busy_timeout(common::LIMIT);
    let broker = SqliteBroker::connect(options).await.expect("a broker");
    process::respond("ready");
    let own = std::process::id();
    let ended = tokio::task::spawn_blocking(|| process::requests().count());
    let mut tasks = 0;
    while !ended.is_finished() {
        let task = format!("{own}-{tasks}");
        enqueue_in(&broker, "q", &task, 100).await.expect("a task");
        tasks += 1;
        if tasks == CHANGES {
            process::respond("progress");
        }
    }
}

#[tokio::test]
async fn busy_processes_do_not_starve_each_other() {
    let scratch = Scratch::new();
    let start = |_| Process::start("busy", &scratch.file());
    let mut busy: Vec<_> = (0..3).map(start).collect();
    let options = SqliteOptions::file(scratch.file()).busy_timeout(common::LIMIT);
    let broker = SqliteBroker::connect(options).await.expect("a broker");
    // All of them write until each has made progress.
    for task in 0..CHANGES {
        enqueue(&broker, &format!("own-{task}"))
            .await
            .expect("a task");
    }
    for process in &mut busy {
        assert_eq!(process.read(), "progress");
    }
    busy.into_iter().for_each(Process::end);
    assert!(common::pending(&broker).await.expect("a number") >= 4 * CHANGES as u64);
}
