//! One queue that fails, beside others that do not.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use asynqueue_core::{
    Context, MessagePack, Payload, Producer, Server, ServerHandle, Task, TaskError,
};
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_test_servers::{RedisCluster, eventually};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Step;

impl Task for Step {
    const EVENT: &'static str = "step";
    type Output = ();
    type Codec = MessagePack;
}

/// How many tasks of each queue have started.
#[derive(Default)]
struct Starts(Mutex<HashMap<String, usize>>);

impl Starts {
    fn of(&self, queues: &[String]) -> usize {
        let starts = self.0.lock();
        queues.iter().filter_map(|queue| starts.get(queue)).sum()
    }
}

async fn serve(broker: &RedisBroker, queues: &[String], starts: &Arc<Starts>) -> ServerHandle {
    let starts = Arc::clone(starts);
    let mut server = Server::builder(broker.clone()).concurrency(50);
    for queue in queues {
        server = server.queue(queue.as_str(), 1);
    }
    let server = server.process(move |_: Payload<Step>, ctx: Context| {
        let starts = Arc::clone(&starts);
        async move {
            *starts.0.lock().entry(ctx.queue().to_string()).or_default() += 1;
            Ok::<_, TaskError>(())
        }
    });
    server.start().await.expect("started")
}

/// A Cluster of which a shard may be away, two queues on each shard, and which of them are on the first one.
async fn sharded() -> (RedisCluster, Vec<String>, Vec<String>) {
    let cluster = RedisCluster::with(&["--cluster-require-full-coverage", "no"]).await;
    let (mut of_shard, mut names) = (HashMap::<u16, Vec<String>>::new(), 0..);
    while of_shard.len() < 3 || of_shard.values().any(|queues| queues.len() < 2) {
        let name = format!("q{}", names.next().expect("a number"));
        let slot = cluster.slot_of(&format!("aq:{{{name}}}:tasks")).await;
        let queues = of_shard.entry(cluster.master_of(slot).await).or_default();
        if queues.len() < 2 {
            queues.push(name);
        }
    }
    let mut shards = of_shard.into_values();
    let sick = shards.next().expect("a shard");
    (cluster, sick, shards.flatten().collect())
}

/// Enqueues a task for each queue in turn, each queue by itself, every `pause`.
fn produce(
    broker: &RedisBroker,
    queues: &[String],
    pause: Duration,
    sent: &Arc<AtomicUsize>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let produce = |queue: &String| {
        let (producer, queue) = (Producer::new(broker.clone()), queue.clone());
        let sent = Arc::clone(sent);
        tokio::spawn(async move {
            loop {
                if producer.enqueue(Step).queue(queue.clone()).await.is_ok() {
                    sent.fetch_add(1, SeqCst);
                }
                tokio::time::sleep(pause).await;
            }
        })
    };
    queues.iter().map(produce).collect()
}

async fn connect(cluster: &RedisCluster) -> RedisBroker {
    let options = RedisOptions::new(&cluster.url()).expect("options");
    RedisBroker::connect(options).await.expect("connected")
}

fn key(queue: &str) -> String {
    format!("aq:{{{queue}}}:tasks")
}

/// From before the outage to its end, also where the outage is longer than calls are tried again.
#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_the_other_shards_start_while_one_shard_stands_still() {
    let (cluster, sick, healthy) = sharded().await;
    let (served, sending) = (connect(&cluster).await, connect(&cluster).await);
    let starts = Arc::new(Starts::default());
    let all = [sick.clone(), healthy.clone()].concat();
    let server = serve(&served, &all, &starts).await;
    let (sent, sent_to_sick) = (Arc::default(), Arc::default());
    let pause = Duration::from_millis(5);
    let producers = produce(&sending, &healthy, pause, &sent);
    let others = produce(&sending, &sick, pause, &sent_to_sick);
    eventually("all queues work", || async {
        all.iter()
            .all(|queue| starts.of(std::slice::from_ref(queue)) > 10)
    })
    .await;
    let outage = async {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(8) {
            let before = starts.of(&healthy);
            eventually("those of the other shards start", || async {
                starts.of(&healthy) > before + 20
            })
            .await;
        }
    };
    cluster.pause_shard_of(&key(&sick[0]), outage).await;
    let before = starts.of(&sick);
    eventually("the shard is used again", || async {
        starts.of(&sick) > before + 20
    })
    .await;
    producers.iter().chain(&others).for_each(|one| one.abort());
    eventually("all is done", || async {
        starts.of(&healthy) >= sent.load(SeqCst) && starts.of(&sick) >= sent_to_sick.load(SeqCst)
    })
    .await;
    assert_eq!(server.stats().stale, 0);
    server.shutdown().await.expect("ended in order");
}

/// Prints how many tasks of healthy shards start in a second before and while one shard stands still for 20 s. To run:
/// `cargo test --release -p asynqueue-redis --test faults rate_while -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures, and asserts nothing"]
async fn rate_while_one_shard_stands_still() {
    const WINDOW: Duration = Duration::from_secs(20);
    let (cluster, sick, healthy) = sharded().await;
    let (served, sending) = (connect(&cluster).await, connect(&cluster).await);
    let starts = Arc::new(Starts::default());
    let all = [sick.clone(), healthy.clone()].concat();
    let _server = serve(&served, &all, &starts).await;
    let _producers = produce(&sending, &all, Duration::from_millis(2), &Arc::default());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let rate = async || {
        let (mut seconds, mut before) = (Vec::new(), starts.of(&healthy));
        let start = Instant::now();
        for n in 1..=WINDOW.as_secs() {
            tokio::time::sleep_until((start + Duration::from_secs(n)).into()).await;
            let now = starts.of(&healthy);
            seconds.push(now - before);
            before = now;
        }
        println!("starts in each second: {seconds:?}");
        seconds.iter().sum::<usize>() as f64 / WINDOW.as_secs_f64()
    };
    let before = rate().await;
    let mut during = 0.0;
    cluster
        .pause_shard_of(&key(&sick[0]), async { during = rate().await })
        .await;
    println!(
        "{before:.0}/s before, {during:.0}/s during: {:.1} %",
        100.0 * during / before
    );
}
