//! Producers and a server under load, with a record of every run.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use asynqueue_core::{
    broker::Conflict,
    codec::MessagePack,
    process::{Context, Payload, TaskError},
    producer::{EnqueueError, Producer},
    server::{Server, ServerHandle},
    task::Task,
};
use asynqueue_redis::{RedisBroker, RedisOptions};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

pub(crate) const QUEUE: &str = "work";

/// A task that takes a moment.
#[derive(Serialize, Deserialize)]
pub(crate) struct Work {
    pub(crate) n: usize,
}

impl Task for Work {
    const EVENT: &'static str = "work";
    type Output = ();
    type Codec = MessagePack;
}

/// Every run, and whether any two runs of a task overlapped.
#[derive(Default)]
pub(crate) struct Record {
    running: Mutex<HashSet<usize>>,
    runs: Mutex<HashMap<usize, usize>>,
    overlaps: AtomicUsize,
}

impl Record {
    async fn run(&self, n: usize, time: Duration) {
        if !self.running.lock().insert(n) {
            self.overlaps.fetch_add(1, SeqCst);
        }
        tokio::time::sleep(time).await;
        *self.runs.lock().entry(n).or_default() += 1;
        self.running.lock().remove(&n);
    }

    pub(crate) fn done(&self) -> usize {
        self.runs.lock().len()
    }

    /// Checks that this many tasks have run, each once.
    pub(crate) fn assert_each_ran_once(&self, tasks: usize) {
        let runs = self.runs.lock();
        let missing: Vec<_> = (0..tasks).filter(|n| !runs.contains_key(n)).collect();
        assert!(missing.is_empty(), "never ran: {missing:?}");
        let more: Vec<_> = runs.iter().filter(|(_, runs)| **runs > 1).collect();
        assert!(more.is_empty(), "ran more than once: {more:?}");
        assert_eq!(self.overlaps.load(SeqCst), 0, "overlaps");
    }
}

/// A broker with long retries, for processes that must survive faults.
pub(crate) async fn patient(url: &str) -> RedisBroker {
    let options = RedisOptions::new(url).expect("a URL");
    let options = options
        .connect_timeout(Duration::from_millis(500))
        .response_timeout(Duration::from_millis(500))
        .retry_for(Duration::from_secs(15));
    RedisBroker::connect(options).await.expect("a connection")
}

/// A server that runs the work.
pub(crate) async fn serve(
    broker: &RedisBroker,
    record: &Arc<Record>,
    time: Duration,
) -> ServerHandle {
    serve_leasing(broker, record, Duration::from_secs(30), time).await
}

/// A server that runs the work with leases of this length.
pub(crate) async fn serve_leasing(
    broker: &RedisBroker,
    record: &Arc<Record>,
    lease: Duration,
    time: Duration,
) -> ServerHandle {
    let record = Arc::clone(record);
    let process = move |task: Payload<Work>, _: Context| {
        let record = Arc::clone(&record);
        async move {
            record.run(task.n, time).await;
            Ok::<_, TaskError>(())
        }
    };
    let server = Server::builder(broker.clone())
        .queue(QUEUE, 1)
        .concurrency(16)
        .lease(lease)
        .process(process);
    server.start().await.expect("a server")
}

/// Producers that send one task after the other, each until it is known to be accepted.
pub(crate) struct Producers {
    running: JoinSet<usize>,
    stop: Arc<AtomicBool>,
}

impl Producers {
    pub(crate) fn start(broker: &RedisBroker, pause: Duration) -> Self {
        Self::start_at(0, broker, pause)
    }

    /// Starts with this number.
    pub(crate) fn start_at(first: usize, broker: &RedisBroker, pause: Duration) -> Self {
        let (stop, next) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(first)),
        );
        let mut running = JoinSet::new();
        for _ in 0..4 {
            let producer = Producer::new(broker.clone());
            let (stop, next) = (Arc::clone(&stop), Arc::clone(&next));
            running.spawn(async move {
                let mut sent = 0;
                while !stop.load(SeqCst) {
                    send(&producer, next.fetch_add(1, SeqCst)).await;
                    sent += 1;
                    tokio::time::sleep(pause).await;
                }
                sent
            });
        }
        Self { running, stop }
    }

    /// Stops them. Returns how many tasks were accepted.
    pub(crate) async fn stop(self) -> usize {
        self.stop.store(true, SeqCst);
        self.running.join_all().await.into_iter().sum()
    }
}

/// Sends one task with a unique id until it is accepted, or was accepted before.
pub(crate) async fn send(producer: &Producer, n: usize) {
    loop {
        let sent = producer
            .enqueue(Work { n })
            .queue(QUEUE)
            .id(format!("task-{n}"));
        match sent.await {
            Ok(_) | Err(EnqueueError::Conflict(Conflict::Id { .. })) => return,
            Err(error) => eprintln!("task {n}: {error}"),
        }
    }
}
