//! Reports about archives that reach their limits.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use asynqueue_core::{
    broker::{Inspect, Keep},
    memory::MemoryBroker,
    process::{Context, Payload, TaskError},
    server::{Server, ServerHandle},
    task::TaskState,
};
use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    set_global_recorder,
};

use crate::harness::{Job, broker, enqueue_jobs, lines, until, with};

/// The counters of one metric, by their labels.
struct Counters {
    metric: &'static str,
    values: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
}

impl Counters {
    fn all(&self) -> Vec<(String, u64)> {
        let values = self.values.lock().unwrap();
        let read =
            |(labels, value): (&String, &Arc<AtomicU64>)| (labels.clone(), value.load(SeqCst));
        values.iter().map(read).collect()
    }
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if key.name() != self.metric {
            return Counter::noop();
        }
        let labels: Vec<_> = key.labels().map(|label| label.value()).collect();
        let mut values = self.values.lock().unwrap();
        Counter::from_arc(Arc::clone(values.entry(labels.join(" ")).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// A server whose tasks all fail without a retry, and which keeps this many of them.
async fn start(broker: &MemoryBroker, archived_max: usize) -> ServerHandle {
    let fail = |_: Payload<Job>, _: Context| async {
        Err::<(), _>(TaskError::skip_retry("unknown parameter"))
    };
    let keep = Keep::default().archived_max(archived_max);
    let server = Server::builder(broker.clone()).keep_archived(keep);
    server.process(fail).start().await.unwrap()
}

async fn archived(broker: &MemoryBroker) -> (u64, u64) {
    let stats = broker.stats(&["default".into()]).await.unwrap().remove(0);
    (stats.count(TaskState::Archived), stats.archive.trimmed())
}

#[tokio::test]
async fn trimmed_tasks_are_counted_by_queue_and_reason_and_logged_in_one_line() {
    // The server reports from its internal thread, so the recorder is that of the process.
    static COUNTERS: Counters = Counters {
        metric: "asynqueue_tasks_trimmed_total",
        values: Mutex::new(BTreeMap::new()),
    };
    set_global_recorder(&COUNTERS).expect("the only recorder");
    let (lines, _log) = lines();
    let (broker, producer) = broker();
    enqueue_jobs(&producer, 2_500).await;
    let server = start(&broker, 4).await;
    until("all but 4 are deleted", async || {
        archived(&broker).await == (4, 2_496)
    })
    .await;
    until("it is logged", async || {
        !with(&lines, "deleted archived tasks").is_empty()
    })
    .await;
    server.shutdown().await.unwrap();
    // Other tests of this process do not trim archives by count.
    let counted = COUNTERS.all();
    assert!(
        counted.contains(&("default count".into(), 2_496)),
        "{counted:?}"
    );
    assert!(counted.contains(&("default age".into(), 0)), "{counted:?}");
    let deleted = with(&lines, "deleted archived tasks");
    assert_eq!(deleted.len(), 1, "{deleted:?}");
    let line = &deleted[0];
    assert!(line.contains("WARN"), "{line}");
    assert!(
        line.contains("queue=default by_count=2496 by_age=0 max=4"),
        "{line}"
    );
}

/// Archives all waiting tasks, checks the limits of the archive once, and ends.
async fn archive_all(broker: &MemoryBroker, archived_max: usize, expected: (u64, u64)) {
    let server = start(broker, archived_max).await;
    until("all are archived", async || {
        archived(broker).await == expected
    })
    .await;
    server.shutdown().await.unwrap();
    // A later server starts with a check.
    let server = start(broker, archived_max + 1).await;
    until("it has looked", async || {
        let stats = broker.stats(&["default".into()]).await.unwrap().remove(0);
        stats.archive.max == Some(archived_max as u64 + 1)
    })
    .await;
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_archive_at_80_percent_of_its_limit_is_logged_and_nothing_is_deleted() {
    let (lines, _log) = lines();
    let (broker, producer) = broker();
    let nearly_full = || with(&lines, "nearly full");
    enqueue_jobs(&producer, 79).await;
    archive_all(&broker, 99, (79, 0)).await;
    assert!(nearly_full().is_empty(), "{:?}", nearly_full());
    enqueue_jobs(&producer, 1).await;
    let server = start(&broker, 100).await;
    until("it is logged", async || !nearly_full().is_empty()).await;
    server.shutdown().await.unwrap();
    assert_eq!(nearly_full().len(), 1, "{:?}", nearly_full());
    let line = &nearly_full()[0];
    assert!(
        line.contains("WARN") && line.contains("archived=80 max=100"),
        "{line}"
    );
    assert_eq!(archived(&broker).await, (80, 0));
}

/// As after a bad deploy.
#[tokio::test]
async fn fifty_thousand_failed_tasks_are_all_kept_by_default() {
    let (broker, producer) = broker();
    enqueue_jobs(&producer, 50_000).await;
    archive_all(&broker, Keep::default().archived_max, (50_000, 0)).await;
    assert_eq!(archived(&broker).await, (50_000, 0));
}
