//! One queue fails beside others that do not.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use asynqueue_core::{
    broker::{Broker, Keep, LeaseRequest, Leased, Outcome, Settled, all_of},
    codec::MessagePack,
    process::{Context, Payload, TaskError},
    producer::Producer,
    server::{Server, ServerHandle},
    task::{Task, Timestamp},
};
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_test_servers::{RedisCluster, RedisServer, eventually};
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
    serve_leasing(broker, queues, starts, Duration::from_secs(30)).await
}

async fn serve_leasing(
    broker: &RedisBroker,
    queues: &[String],
    starts: &Arc<Starts>,
    lease: Duration,
) -> ServerHandle {
    let starts = Arc::clone(starts);
    let mut server = Server::builder(broker.clone()).concurrency(50).lease(lease);
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

/// A Cluster in which a shard may be down, two queues on each shard, and the queues on the first one.
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

/// Enqueues a task for each queue in turn, every `pause`.
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

/// Even while a call to that shard blocks.
#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_the_other_shards_start_while_one_shard_hangs() {
    let (cluster, sick, healthy) = sharded().await;
    let options = || {
        let options = RedisOptions::new(&cluster.url()).expect("options");
        let long = Duration::from_secs(120);
        options
            .retry_for(long)
            .response_timeout(long)
            .connect_timeout(long)
    };
    let connect = async || RedisBroker::connect(options()).await.expect("connected");
    let (served, sending) = (connect().await, connect().await);
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
        for queue in healthy.iter().cycle().take(40) {
            let queue = std::slice::from_ref(queue);
            let before = starts.of(queue);
            eventually("the tasks of the other shards start", || async {
                starts.of(queue) > before + 40
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

/// Even if one try takes longer than calls are retried.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_waits_no_longer_than_retry_for_while_a_shard_hangs() {
    let (cluster, sick, healthy) = sharded().await;
    let options = RedisOptions::new(&cluster.url()).expect("options");
    let options = options
        .retry_for(Duration::from_secs(1))
        .response_timeout(Duration::from_secs(1))
        .connect_timeout(Duration::from_secs(60));
    let broker = RedisBroker::connect(options).await.expect("connected");
    let producer = Producer::new(broker);
    let outage = async {
        for _ in 0..3 {
            let sending = producer.enqueue(Step).queue(sick[0].clone()).into_future();
            // A multiple of the time it may take.
            let sent = tokio::time::timeout(Duration::from_secs(10), sending).await;
            let error = sent.expect("a response in time").expect_err("no shard");
            assert!(error.to_string().contains("unavailable"), "{error}");
            let task = producer.enqueue(Step).queue(healthy[0].clone());
            task.await.expect("the others are used in the meantime");
        }
    };
    cluster.pause_shard_of(&key(&sick[0]), outage).await;
}

/// Breaks one queue as an operator or a bug might. Each change is undone at the end.
async fn a_broken_queue_leaves_the_other_alone(
    breaks: &[&str],
    mends: &[&str],
    options: impl AsyncFn(&RedisServer) -> RedisOptions,
) {
    let redis = RedisServer::start().await;
    let run = async |command: &[&str]| {
        let mut all = redis::cmd(command[0]);
        all.arg(&command[1..]);
        let mut admin = redis.connection().await;
        let _: redis::Value = all.query_async(&mut admin).await.expect("done");
    };
    let broker = RedisBroker::connect(options(&redis).await)
        .await
        .expect("connected");
    run(breaks).await;
    let queues = ["bad", "good"].map(String::from);
    let starts = Arc::new(Starts::default());
    let producer = Producer::new(broker.clone());
    for _ in 0..3 {
        lost(&broker, &producer).await;
    }
    let lease = Duration::from_millis(600);
    let server = serve_leasing(&broker, &queues, &starts, lease).await;
    for n in 1..=20 {
        let task = producer.enqueue(Step).queue("good");
        task.delay(Duration::from_millis(5))
            .await
            .expect("accepted");
        eventually(
            "the delayed task of the good queue and the lost ones run",
            || async { starts.of(&queues[1..]) >= n },
        )
        .await;
    }
    eventually("the lost ones run too", || async {
        starts.of(&queues[1..]) == 23
    })
    .await;
    run(mends).await;
    producer.enqueue(Step).queue("bad").await.expect("accepted");
    eventually("the bad queue is served again", || async {
        starts.of(&queues[..1]) == 1
    })
    .await;
    assert_eq!(server.stats().stale, 0);
    server.shutdown().await.expect("ended in order");
}

/// Enqueues a task and leases it for a worker that no longer exists.
async fn lost(broker: &RedisBroker, producer: &Producer) {
    producer
        .enqueue(Step)
        .queue("good")
        .await
        .expect("accepted");
    let request = LeaseRequest::new(
        vec![("good".into(), 1)],
        1,
        Duration::from_millis(1),
        "gone".into(),
    );
    let leased = all_of(broker.lease(&request).await).expect("leased");
    assert_eq!(leased.concat().len(), 1);
}

async fn plain(redis: &RedisServer) -> RedisOptions {
    RedisOptions::new(&redis.url()).expect("options")
}

/// Each key in turn has another type, which forwarding, reclaiming, leasing, trimming or listing encounters.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_wrong_type_in_one_queue_delays_no_task_of_another() {
    for key in [
        "scheduled",
        "retry",
        "active",
        "tasks",
        "pending",
        "completed",
        "archived",
        "stats",
        "meta",
    ] {
        let key = format!("aq:{{bad}}:{key}");
        // `stats` and similar are hashes, others lists or sorted sets. None is a set.
        a_broken_queue_leaves_the_other_alone(&["SADD", &key, "x"], &["DEL", &key], plain).await;
    }
}

/// By the ACL rules of the servers' user.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_whose_keys_are_denied_delays_no_task_of_another() {
    let denied = [
        "ACL",
        "SETUSER",
        "app",
        "resetkeys",
        "~aq:{good}:*",
        "~aq:queues",
        "~aq:{documents}:*",
    ];
    let allowed = ["ACL", "SETUSER", "app", "~*"];
    let options = async |redis: &RedisServer| {
        let mut add = redis::cmd("ACL");
        add.arg(&["SETUSER", "app", "on", ">secret", "~*", "&*", "+@all"]);
        let mut admin = redis.connection().await;
        let _: redis::Value = add.query_async(&mut admin).await.expect("added");
        let url = format!("redis://app:secret@127.0.0.1:{}", redis.port());
        RedisOptions::new(&url).expect("options")
    };
    a_broken_queue_leaves_the_other_alone(&denied, &allowed, options).await;
}

#[tokio::test]
async fn a_call_for_two_queues_returns_the_result_of_the_healthy_one() {
    let redis = RedisServer::start().await;
    let options = plain(&redis).await;
    let broker = RedisBroker::connect(options).await.expect("connected");
    let producer = Producer::new(broker.clone());
    producer
        .enqueue(Step)
        .queue("good")
        .await
        .expect("accepted");
    let later = producer.enqueue(Step).queue("good");
    later
        .delay(Duration::from_millis(1))
        .await
        .expect("accepted");
    let mut admin = redis.connection().await;
    for key in ["scheduled", "active", "tasks", "pending", "completed"] {
        let mut set = redis::cmd("SADD");
        set.arg(format!("aq:{{bad}}:{key}")).arg("x");
        let _: i64 = set.query_async(&mut admin).await.expect("set");
    }
    let queues = ["bad", "good"].map(Into::into);
    let forwarded = broker.forward(&queues, 10).await.expect("a response");
    assert!(matches!(forwarded[..], [Err(_), Ok(_)]), "{forwarded:?}");
    let request = LeaseRequest::new(
        vec![("bad".into(), 1), ("good".into(), 1)],
        2,
        Duration::from_millis(1),
        "tester".into(),
    );
    let leased = broker.lease(&request).await.expect("a response");
    let [Err(_), Ok(leased)] = &leased[..] else {
        panic!("{leased:?}")
    };
    let good = leased[0].lease();
    let mut bad = good.clone();
    bad.task.queue = "bad".into();
    let extended = broker.extend(&[bad, good], Duration::ZERO).await;
    let extended = extended.expect("a response");
    assert!(matches!(extended[..], [Err(_), Ok(_)]), "{extended:?}");
    let expired = broker.expired(&queues, Timestamp::MAX, 10).await;
    let expired = expired.expect("a response");
    assert!(matches!(expired[..], [Err(_), Ok(_)]), "{expired:?}");
    let trimmed = broker.trim(&queues, Keep::default(), 10).await;
    let trimmed = trimmed.expect("a response");
    assert!(matches!(trimmed[..], [Err(_), Ok(_)]), "{trimmed:?}");
}

/// The first response counts, even for a call in which another queue fails.
#[tokio::test]
async fn outcomes_of_one_queue_are_recorded_while_those_of_another_fail() {
    let redis = RedisServer::start().await;
    let broker = RedisBroker::connect(plain(&redis).await)
        .await
        .expect("connected");
    let producer = Producer::new(broker.clone());
    for queue in ["bad", "good"] {
        producer.enqueue(Step).queue(queue).await.expect("accepted");
    }
    let request = LeaseRequest::new(
        vec![("bad".into(), 1), ("good".into(), 1)],
        2,
        Duration::from_secs(60),
        "tester".into(),
    );
    let leased = all_of(broker.lease(&request).await)
        .expect("leased")
        .concat();
    let settle = |leased: Leased| leased.settle(Outcome::Complete { result: None });
    let settlements: Vec<_> = leased.into_iter().map(settle).collect();
    let mut admin = redis.connection().await;
    let run = async |admin: &mut redis::aio::MultiplexedConnection, command: [&str; 3]| {
        let mut all = redis::cmd(command[0]);
        let _: redis::Value = all
            .arg(&command[1..])
            .query_async(admin)
            .await
            .expect("done");
    };
    run(&mut admin, ["RENAME", "aq:{bad}:active", "aq:{bad}:kept"]).await;
    run(&mut admin, ["SADD", "aq:{bad}:active", "x"]).await;
    let answers = broker.settle(&settlements).await.expect("a response");
    assert!(answers[0].is_err(), "{answers:?}");
    assert!(matches!(answers[1], Ok(Settled::Recorded)), "{answers:?}");
    run(&mut admin, ["RENAME", "aq:{bad}:kept", "aq:{bad}:active"]).await;
    let again = broker.settle(&settlements[..1]).await.expect("a response");
    assert!(matches!(again[..], [Ok(Settled::Recorded)]), "{again:?}");
}

/// Prints how many tasks of healthy shards start per second before and while one shard hangs for 20 s. To run:
/// `cargo test --release -p asynqueue-redis --test faults rate_while -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement without assertions"]
async fn rate_while_one_shard_hangs() {
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
