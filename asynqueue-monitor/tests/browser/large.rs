//! The time until each page is painted on a large broker: a million tasks, 200 queues and 500 events. Run by hand:
//!
//! ```sh
//! cargo test --release -p asynqueue-monitor --all-features --test browser large -- --ignored --nocapture
//! ```

use asynqueue_core::{
    broker::{Counts, NewTask, Point, Series, SharedBroker, When},
    codec::{CodecName, MessagePack},
    inspector::Inspector,
    task::{Envelope, Name, TaskId},
};
use asynqueue_monitor::Monitor;
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_test_servers::RedisServer;

use super::browser::Browser;

const QUEUES: usize = 200;
const EVENTS: usize = 500;
const TASKS: usize = 1_000_000;

/// Each page is opened this many times.
const TIMES: usize = 5;

#[tokio::test]
#[ignore = "takes minutes, and its result is a table"]
async fn first_paint_of_each_page_of_a_large_broker() {
    let redis = RedisServer::start().await;
    let options = RedisOptions::new(&redis.url()).expect("an address");
    let broker = RedisBroker::connect(options).await.expect("connected");
    let broker = SharedBroker::from(broker);
    fill(&broker).await;
    let before = used_memory(&broker).await;
    let points = count(&broker).await;
    let used = used_memory(&broker).await - before;
    println!(
        "{} bytes of Redis for each of {points} points",
        used / points
    );
    let monitor = Monitor::new(broker.clone());
    let endpoint = monitor.serve("127.0.0.1:0").await.expect("served");
    let browser = Browser::start().await;
    println!("| page | first paint in ms, median of {TIMES} |\n|---|---|");
    for page in [
        "/",
        "/charts?span=1h",
        "/charts?span=6h",
        "/charts?span=6h&queue=queue-7",
        "/charts?span=90d",
        "/events?span=15m",
        "/events?span=1h",
        "/events?span=24h",
        "/events?span=90d",
        "/events?event=event-7&span=6h",
        "/failures",
        "/queues/queue-7",
        "/queues/queue-7?state=pending&filter=header.tenant%3Da",
        "/queues/queue-7/tasks/7",
        "/servers",
        "/schedules",
        "/groups",
        "/storage",
        "/audit",
        "/search?q=1000123",
    ] {
        let mut times = Vec::new();
        for _ in 0..TIMES {
            times
                .push(first_paint(&browser, &format!("http://{}{page}", endpoint.address())).await);
        }
        times.sort_by(f64::total_cmp);
        println!("| `{page}` | {:.0} |", times[TIMES / 2]);
    }
    endpoint.shutdown().await;
}

async fn first_paint(browser: &Browser, url: &str) -> f64 {
    browser.open(url).await;
    let paint = "performance.getEntriesByName('first-contentful-paint')[0]";
    browser.until(&format!("return !!{paint}")).await;
    let time = browser.run(&format!("return {paint}.startTime")).await;
    time.as_f64().expect("a time")
}

async fn fill(broker: &SharedBroker) {
    let codec = CodecName::of::<MessagePack>();
    let numbers: Vec<_> = (0..TASKS).collect();
    for chunk in numbers.chunks(1_000) {
        let tasks = chunk.iter().map(|n| {
            let id = TaskId::new(n.to_string()).expect("an id");
            let event = format!("event-{}", n % EVENTS);
            let mut task =
                Envelope::new(id, event, codec.clone(), vec![0x81, 0xa1, b'n', 1].into());
            task.queue = format!("queue-{}", n % QUEUES).into();
            NewTask::new(task, When::Now)
        });
        let accepted = broker.enqueue(tasks.collect()).await.expect("accepted");
        assert!(accepted.iter().all(Result::is_ok));
    }
}

/// Returns how many points it adds: statistics of each event and queue in each minute of six hours, hour of a day and day of 90 days.
async fn count(broker: &SharedBroker) -> u64 {
    let outcomes: Counts = [(0, 100), (1, 90), (2, 10), (3, 1)].into_iter().collect();
    let times = (0..12).flat_map(|bucket| [(30 + bucket, 8), (110 + bucket, 8)]);
    let mut with_times: Counts = times.collect();
    with_times.merge(&outcomes);
    let queue = |n: usize| Name::from(format!("queue-{}", n % QUEUES));
    let event = |n| (queue(n), Name::from(format!("event-{n}")));
    let events: Vec<_> = (0..EVENTS).map(event).collect();
    let queues: Vec<_> = (0..QUEUES).map(|n| (queue(n), Point::REST)).collect();
    let mut points = Vec::new();
    for (series, spans, names, counts) in [
        (Series::EventMinutes, 361, &events, &with_times),
        (Series::EventHours, 25, &events, &with_times),
        (Series::EventDays, 90, &events, &with_times),
        (Series::QueueMinutes, 361, &queues, &outcomes),
    ] {
        for ago in 0..spans {
            let at = series.start_of(broker.now() - series.span() * ago);
            points.extend(names.iter().map(|(group, key)| Point {
                series,
                at,
                group: group.clone(),
                key: key.clone(),
                counts: counts.clone(),
                note: Vec::new().into(),
            }));
        }
    }
    for chunk in points.chunks(Point::MAX_CALL) {
        broker.add_points(chunk.to_vec()).await.expect("added");
    }
    points.len() as u64
}

async fn used_memory(broker: &SharedBroker) -> u64 {
    let nodes = Inspector::new(broker.clone()).nodes().await;
    nodes.expect("a node")[0].memory.expect("Redis reports it")
}
