//! Several processes use one file. What one of them does, the others learn without polling.

mod common;

use std::{fs, path::Path};

use asynqueue_conformance::processes::{self, ProcessHarness};
use asynqueue_sqlite::{SqliteBroker, SqliteOptions};
use common::{
    Scratch,
    child::{self, Child},
    enqueue, enqueue_in,
};

/// What this binary does in other processes.
#[test]
#[ignore = "started by other tests"]
fn child() {
    let Some((role, file)) = child::role() else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.enable_all().build().expect("a runtime");
    match role.as_str() {
        processes::ROLE => {
            runtime.block_on(async { processes::serve(common::open(file).await).await });
        }
        "busy" => runtime.block_on(be_busy(file.as_ref())),
        role => panic!("unknown role {role}"),
    }
}

#[async_trait::async_trait]
impl ProcessHarness for Scratch {
    type Store = SqliteBroker;

    fn address(&self) -> String {
        self.file().to_str().expect("text").to_owned()
    }

    async fn store(&self) -> SqliteBroker {
        common::open(self.file()).await
    }

    async fn waiters(&self) -> u64 {
        let rows = "select count(*) from asynqueue_waiter";
        let program = common::program(self.file());
        let rows = program.query_row(rows, [], |row| row.get::<_, i64>(0));
        rows.expect("a row") as u64
    }
}

asynqueue_conformance::processes_suite!(Scratch::new());

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
    let mut other = Child::start(processes::ROLE, scratch.file());
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
    child::respond("ready");
    let own = std::process::id();
    let ended = tokio::task::spawn_blocking(|| child::requests().count());
    let mut tasks = 0;
    while !ended.is_finished() {
        let task = format!("{own}-{tasks}");
        enqueue_in(&broker, "q", &task, 100).await.expect("a task");
        tasks += 1;
        if tasks == CHANGES {
            child::respond("progress");
        }
    }
}

#[tokio::test]
async fn busy_processes_do_not_starve_each_other() {
    let scratch = Scratch::new();
    let start = |_| Child::start("busy", scratch.file());
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
        assert_eq!(process.read().as_deref(), Some("progress"));
    }
    busy.into_iter().for_each(Child::end);
    assert!(common::pending(&broker).await.expect("a number") >= 4 * CHANGES as u64);
}
