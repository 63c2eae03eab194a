//! A SQLite file in a run, and what else happens to it.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use asynqueue_conformance::chaos::{Dice, Fault, Scene, Stage};
use asynqueue_core::broker::SharedBroker;
use rusqlite::Connection;
use tokio::{sync::Mutex, task::spawn_blocking};

use super::{
    connect,
    disk::Disk,
    locks::Locks,
    tables::{open, problems, texts},
};

/// Another program reads in one long transaction, so that the log grows.
const READER: Fault = Fault::mild("reader");

/// Another program moves the log into the file.
const CHECKPOINT: Fault = Fault::mild("checkpoint");

/// Another program rewrites the file.
const VACUUM: Fault = Fault::mild("vacuum");

/// Another program writes in one long transaction.
const WRITER: Fault = Fault::severe("writer");

/// SIGSTOP of a process that holds the write lock, and SIGCONT.
const STOP_WRITING: Fault = Fault::severe("stop_writing");

/// SIGKILL of a process that holds the write lock.
const KILL_WRITING: Fault = Fault::severe("kill_writing");

/// The disk is full.
const FULL: Fault = Fault::severe("full");

/// Tables with rows that stay: figures, what was deleted lately, results of tasks whose caller was killed, and expired
/// locks.
const STAY: [&str; 8] = [
    "asynqueue_lock",
    "asynqueue_meta",
    "asynqueue_queue",
    "asynqueue_hour",
    "asynqueue_point",
    "asynqueue_document",
    "asynqueue_end",
    // Queues remember the last tick of a removed entry for an hour.
    "asynqueue_tick",
];

/// How often to fill the disk while others write.
const FILL_TRIES: usize = 100;

/// A database file, and everything that can break it.
pub(crate) struct SqliteStage {
    disk: Arc<Disk>,
    path: PathBuf,
    locks: Locks,
    /// Locked during a fault of the file.
    is_broken: Mutex<()>,
    /// How often a process was stopped or killed while it wrote.
    caught: AtomicU64,
}

impl SqliteStage {
    pub(crate) async fn start(disk: Disk) -> Self {
        let path = disk.folder.join("tasks.db");
        let stage = Self {
            locks: Locks::of(&path),
            disk: Arc::new(disk),
            path,
            is_broken: Mutex::new(()),
            caught: AtomicU64::new(0),
        };
        // Creates the file.
        stage.broker().await;
        let application = "create table application (value blob)";
        stage
            .with(move |db| db.execute_batch(application).expect("a table"))
            .await;
        stage
    }

    /// Uses a connection of another program.
    async fn with<T: Send + 'static>(
        &self,
        call: impl FnOnce(Connection) -> T + Send + 'static,
    ) -> T {
        let path = self.path.clone();
        let called = spawn_blocking(move || call(open(&path)));
        called.await.expect("no panic")
    }

    /// A connection in a transaction, once it has its lock.
    async fn within(&self, begin: &'static str) -> Option<Connection> {
        let begin = move |db: Connection| db.execute_batch(begin).is_ok().then_some(db);
        self.with(begin).await
    }

    async fn read(&self, scene: &Scene, dice: &mut Dice) {
        if let Some(_reading) = self.within("begin; select * from asynqueue_meta").await {
            let long = tokio::time::sleep(dice.millis(500, 5_000));
            scene.during(READER, "all", long).await;
        }
    }

    async fn write(&self, scene: &Scene, dice: &mut Dice) {
        let begin = "begin immediate; insert into application values (zeroblob(50000))";
        if let Some(writing) = self.within(begin).await {
            let long = tokio::time::sleep(dice.millis(300, 6_000));
            scene.during(WRITER, "all", long).await;
            let is_kept = dice.below(2) == 0;
            let end = if is_kept {
                "delete from application; commit"
            } else {
                "rollback"
            };
            let ended = spawn_blocking(move || writing.execute_batch(end));
            // Fails if the disk is full; closing the connection ends the transaction too.
            let _ = ended.await.expect("no panic");
        }
    }

    /// Runs a statement that may fail because of others.
    async fn run(&self, fault: Fault, sql: &'static str, scene: &Scene) {
        let run = self.with(move |db| {
            db.busy_timeout(Duration::from_millis(100))
                .expect("a timeout");
            let _ = db.execute_batch(sql);
        });
        scene.during(fault, "all", run).await;
    }

    async fn fill(&self, scene: &Scene, dice: &mut Dice) {
        let disk = Arc::clone(&self.disk);
        let fill = move |db: Connection| {
            // Writes into the space of an old log need no room.
            let _ = db.execute_batch("pragma busy_timeout = 0; pragma wal_checkpoint(truncate)");
            (0..FILL_TRIES).any(|_| disk.fill())
        };
        if self.with(fill).await {
            let long = tokio::time::sleep(dice.millis(300, 4_500));
            scene.during(FULL, "all", long).await;
        }
        self.disk.free();
    }

    async fn stop_writing(&self, scene: &Scene, dice: &mut Dice) {
        if let Some(place) = self.locks.stop_a_writer(scene).await {
            self.caught.fetch_add(1, SeqCst);
            let long = tokio::time::sleep(dice.millis(300, 6_000));
            // The others cannot write either.
            scene.during(STOP_WRITING, "all", long).await;
            place.signal("CONT");
        }
    }

    async fn kill_writing(&self, scene: &Scene, dice: &mut Dice) {
        if let Some(mut place) = self.locks.stop_a_writer(scene).await {
            self.caught.fetch_add(1, SeqCst);
            let who = place.who();
            let replaced = async {
                place.kill().await;
                tokio::time::sleep(dice.millis(0, 1_500)).await;
                place.start().await;
            };
            scene.during(KILL_WRITING, &who, replaced).await;
        }
    }
}

#[async_trait]
impl Stage for SqliteStage {
    fn title(&self) -> String {
        let disk = if self.disk.is_small {
            "a small disk in memory"
        } else {
            "a disk"
        };
        format!("one SQLite file on {disk}")
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = vec![
            READER,
            CHECKPOINT,
            VACUUM,
            WRITER,
            STOP_WRITING,
            KILL_WRITING,
        ];
        faults.extend(self.disk.is_small.then_some(FULL));
        faults
    }

    async fn url(&self, _: &str) -> String {
        // Less than a lease, so that calls also fail because the file is locked.
        format!("sqlite://{}?busy_timeout=2s", self.path.display())
    }

    async fn broker(&self) -> SharedBroker {
        let url = format!("sqlite://{}?busy_timeout=20s", self.path.display());
        connect(url).await.expect("the database opens")
    }

    async fn inject(&self, fault: Fault, scene: &Scene, dice: &mut Dice) {
        if fault == READER {
            return self.read(scene, dice).await;
        }
        let Ok(_broken) = self.is_broken.try_lock() else {
            return;
        };
        match fault {
            CHECKPOINT => {
                self.run(fault, "pragma wal_checkpoint(truncate)", scene)
                    .await
            }
            VACUUM => self.run(fault, "vacuum", scene).await,
            WRITER => self.write(scene, dice).await,
            STOP_WRITING => self.stop_writing(scene, dice).await,
            KILL_WRITING => self.kill_writing(scene, dice).await,
            _ => self.fill(scene, dice).await,
        }
    }

    async fn respond(&self) {
        let read = |db: Connection| texts(&db, "select name from asynqueue_queue");
        self.with(read).await;
    }

    async fn left(&self) -> Vec<String> {
        self.with(|db| {
            let mut left = problems(&db);
            left.extend(left_rows(&db));
            left
        })
        .await
    }

    fn figures(&self) -> Vec<(String, String)> {
        let what = "processes stopped or killed while they wrote";
        vec![(what.to_owned(), self.caught.load(SeqCst).to_string())]
    }
}

/// Rows that should not exist once all tasks are gone.
fn left_rows(db: &Connection) -> Vec<String> {
    let mut left = Vec::new();
    let tables = "select name from sqlite_schema where type = 'table' and name like 'asynqueue\\_%' escape '\\'";
    for table in texts(db, tables)
        .iter()
        .filter(|table| !STAY.contains(&table.as_str()))
    {
        let count =
            format!("select count(*) || ' rows in {table}' from {table} having count(*) > 0");
        left.extend(texts(db, &count));
    }
    left.extend(texts(db, LEFT_LOCKS));
    left.extend(texts(db, LEFT_SCHEDULES));
    left
}

/// The lock of a window stays until upkeep finds that it has expired. A published event is locked for longer than a run,
/// so that no subscriber receives it twice.
const LEFT_LOCKS: &str =
    "select 'lock ' || key || ' of ' || quote(holder) || ' until ' || until from asynqueue_lock
     where until > unixepoch('subsec') * 1000 and key not like 'news-%'";

const LEFT_SCHEDULES: &str = "select space || ' ' || name || ' is left' from asynqueue_document
     where space in ('schedules', 'schedule_events')";
