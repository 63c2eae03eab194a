//! What holds a task when `enqueue` returns: replicas or the disk, if requested.

mod common;

use std::time::Duration;

use asynqueue_core::{
    broker::{Broker, BrokerError, Conflict, Durability, Inspect, Outcome, Settled, all_of},
    codec::MessagePack,
    producer::{EnqueueError, Producer},
    task::{Task, TaskState},
};
use asynqueue_redis::{ConnectError, RedisBroker, RedisOptions};
use asynqueue_test_servers::{RedisCluster, RedisServer, eventually};
use common::{connect, lease, now, send, task};
use redis::cmd;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Job(u32);

impl Task for Job {
    const EVENT: &'static str = "job";
    type Output = ();
    type Codec = MessagePack;
}

const ONE: Durability = Durability::Replicas(1);

/// Connects with time-outs of half a second, in which a running replica responds.
async fn impatient(url: &str) -> RedisBroker {
    let options = RedisOptions::new(url).expect("a URL");
    let options = options.response_timeout(Duration::from_millis(500));
    RedisBroker::connect(options).await.expect("a connection")
}

type Answer = Result<Result<(), Conflict>, BrokerError>;

async fn enqueue(broker: &RedisBroker, queue: &str, id: &str, durability: Durability) -> Answer {
    let tasks = vec![now(task(queue, id))];
    let mut answers = broker.enqueue_durably(tasks, durability).await?;
    Ok(answers.remove(0))
}

fn assert_not_durable<T: std::fmt::Debug>(answer: Result<T, BrokerError>) -> String {
    match answer {
        Err(error @ BrokerError::NotDurable(_)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

async fn has(server: &RedisServer, queue: &str, id: &str) -> bool {
    let mut command = cmd("HEXISTS");
    command.arg(format!("aq:{{{queue}}}:tasks")).arg(id);
    let mut connection = server.connection().await;
    command
        .query_async(&mut connection)
        .await
        .expect("a response")
}

async fn kill_connections(server: &RedisServer) {
    let mut kill = cmd("CLIENT");
    kill.arg(&["KILL", "TYPE", "normal"]);
    let mut connection = server.connection().await;
    let killed: i64 = kill.query_async(&mut connection).await.expect("killed");
    assert!(killed > 0);
}

#[tokio::test]
async fn a_task_is_on_the_replica_once_it_is_accepted() {
    let primary = RedisServer::start().await;
    let replica = RedisServer::replica_of(&primary).await;
    let broker = connect(&format!("{}?durability=replicas=1", primary.url())).await;
    for n in 0..20 {
        let id = n.to_string();
        broker
            .enqueue(vec![now(task("q", &id))])
            .await
            .expect("sent");
        assert!(has(&replica, "q", &id).await, "{id}");
    }
    let many = (20..1_200)
        .map(|n| now(task("q", &n.to_string())))
        .collect();
    let answers = broker.enqueue(many).await.expect("sent");
    assert!(answers.iter().all(Result::is_ok));
    assert!(has(&replica, "q", "1199").await);
}

#[tokio::test]
async fn missing_replicas_are_counted_in_the_error() {
    let primary = RedisServer::start().await;
    let replica = RedisServer::replica_of(&primary).await;
    let broker = impatient(&primary.url()).await;
    // Opens the connection, so that the next call finds a replica that has responded before.
    enqueue(&broker, "q", "first", ONE)
        .await
        .expect("durable")
        .expect("accepted");
    replica.pause();
    let error = assert_not_durable(enqueue(&broker, "q", "a", ONE).await);
    assert!(
        error.contains("0 of 1 replicas have the change after 500ms"),
        "{error}"
    );
    assert!(error.contains("with the same task ids"), "{error}");
    let stats = broker
        .stats(&["q".into()])
        .await
        .expect("figures")
        .remove(0);
    assert_eq!(stats.count(TaskState::Pending), 2);
    // A refusal, on another connection, is only as durable as the conflicting task.
    kill_connections(&primary).await;
    assert_not_durable(enqueue(&broker, "q", "a", ONE).await);
    let many = vec![now(task("q", "b")), now(task("q", "c"))];
    assert_not_durable(broker.enqueue_durably(many, ONE).await);
    // The broker's own setting is different.
    send(&broker, [task("q", "d")]).await;
    replica.resume();
    let again = async || enqueue(&broker, "q", "a", ONE).await;
    eventually("the replica is back", async || again().await.is_ok()).await;
    assert!(matches!(again().await, Ok(Err(Conflict::Id { .. }))));
    assert!(has(&replica, "q", "a").await);
}

#[tokio::test]
async fn a_call_that_waits_for_replicas_does_not_delay_others() {
    let primary = RedisServer::start().await;
    let replica = RedisServer::replica_of(&primary).await;
    let options = RedisOptions::new(&primary.url()).expect("a URL");
    let patient = options.response_timeout(Duration::from_secs(60));
    let broker = RedisBroker::connect(patient).await.expect("a connection");
    replica.pause();
    let calls: Vec<_> = (0..3)
        .map(|n| {
            let (broker, id) = (broker.clone(), format!("durable-{n}"));
            tokio::spawn(async move { enqueue(&broker, "q", &id, ONE).await })
        })
        .collect();
    eventually("they wait", async || blocked_clients(&primary).await > 0).await;
    let plain = (0..100).map(|n| {
        let broker = broker.clone();
        async move { send(&broker, [task("q", &n.to_string())]).await }
    });
    futures_util::future::join_all(plain).await;
    assert!(!lease(&broker, "q", 10).await.is_empty());
    assert!(calls.iter().all(|call| !call.is_finished()));
    replica.resume();
    for call in calls {
        call.await
            .expect("no panic")
            .expect("durable")
            .expect("accepted");
    }
}

async fn blocked_clients(server: &RedisServer) -> u32 {
    let mut info = cmd("INFO");
    let mut connection = server.connection().await;
    let info: String = info
        .arg("clients")
        .query_async(&mut connection)
        .await
        .expect("figures");
    let blocked = info
        .lines()
        .find_map(|line| line.strip_prefix("blocked_clients:"));
    blocked
        .and_then(|blocked| blocked.parse().ok())
        .expect("a number")
}

#[tokio::test]
async fn an_outcome_is_as_durable_as_the_broker_requires() {
    let primary = RedisServer::start().await;
    let replica = RedisServer::replica_of(&primary).await;
    let broker = impatient(&format!("{}?durability=replicas=1", primary.url())).await;
    send(&broker, [task("q", "a")]).await;
    let leased = lease(&broker, "q", 1).await.remove(0);
    let complete = [leased.settle(Outcome::Complete { result: None })];
    replica.pause();
    assert_not_durable(all_of(broker.settle(&complete).await));
    // Repeated on another connection, the change is known and has no effect, but must still wait.
    kill_connections(&primary).await;
    assert_not_durable(all_of(broker.settle(&complete).await));
    replica.resume();
    eventually("the replica is back", async || {
        matches!(
            broker.settle(&complete).await.as_deref(),
            Ok([Ok(Settled::Recorded)])
        )
    })
    .await;
    assert!(!has(&replica, "q", "a").await);
    let stats = broker
        .stats(&["q".into()])
        .await
        .expect("figures")
        .remove(0);
    assert_eq!(stats.succeeded, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_waits_for_the_replica_of_the_master_that_has_the_queue() {
    let cluster = RedisCluster::start().await;
    let broker = impatient(&cluster.url()).await;
    let queues: Vec<_> = (0..12).map(|n| format!("q{n}")).collect();
    for queue in &queues {
        enqueue(&broker, queue, "a", ONE)
            .await
            .expect("durable")
            .expect("accepted");
    }
    // The second half of the nodes are replicas, in the order of their masters.
    let (masters, replicas) = cluster.nodes().split_at(3);
    replicas[1].pause();
    let sick = masters[1].port();
    for queue in &queues {
        let slot = cluster.slot_of(&format!("aq:{{{queue}}}:tasks")).await;
        let is_sick = cluster.master_of(slot).await == sick;
        match enqueue(&broker, queue, "b", ONE).await {
            Ok(Ok(())) => assert!(!is_sick, "{queue}"),
            Err(BrokerError::NotDurable(_)) => assert!(is_sick, "{queue}"),
            other => panic!("{queue}: {other:?}"),
        }
    }
    replicas[1].resume();
    let of_sick = async || {
        let answers = queues.iter().map(|queue| enqueue(&broker, queue, "b", ONE));
        futures_util::future::join_all(answers)
            .await
            .iter()
            .all(Result::is_ok)
    };
    eventually("the replica is back", of_sick).await;
}

#[tokio::test]
async fn a_task_on_the_disk_survives_a_kill() {
    let settings = ["--appendonly", "yes", "--appendfsync", "everysec"];
    let mut server = RedisServer::with(&settings).await;
    let url = format!("{}?durability=fsync", server.url());
    let options = RedisOptions::new(&url).expect("a URL");
    let broker = match RedisBroker::connect(options).await {
        Ok(broker) => broker,
        // A server without the command. The error names it.
        Err(error @ ConnectError::Durability { .. }) => {
            let error = error.to_string();
            assert!(
                error.contains("durability `fsync` requires `WAITAOF` of Redis 7.2 or later"),
                "{error}"
            );
            assert!(error.contains("found redis "), "{error}");
            return;
        }
        Err(other) => panic!("{other:?}"),
    };
    for n in 0..3 {
        send(&broker, [task("q", &n.to_string())]).await;
    }
    server.kill();
    server.start_again().await;
    for n in 0..3 {
        assert!(has(&server, "q", &n.to_string()).await);
    }
}

#[tokio::test]
async fn fsync_is_refused_without_an_append_only_file() {
    let server = RedisServer::start().await;
    let url = format!("{}?durability=fsync", server.url());
    let options = RedisOptions::new(&url).expect("a URL");
    let error = RedisBroker::connect(options).await.expect_err("no file");
    assert!(
        matches!(error, ConnectError::Durability { .. }),
        "{error:?}"
    );
    let broker = connect(&server.url()).await;
    match enqueue(&broker, "q", "a", Durability::Fsync).await {
        // Older than the command.
        Err(BrokerError::Unsupported(problem)) => {
            assert!(problem.message().contains("`WAITAOF`"), "{problem}");
            assert!(!has(&server, "q", "a").await);
        }
        Err(BrokerError::NotDurable(problem)) => {
            assert!(
                problem.message().contains("set `appendonly yes`"),
                "{problem}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_of_many_tasks_is_as_durable_as_its_call_requests() {
    let primary = RedisServer::start().await;
    let replica = RedisServer::replica_of(&primary).await;
    let producer = Producer::new(impatient(&primary.url()).await);
    replica.pause();
    let sent = producer.enqueue_many_with((0..10).map(Job), |job, call| match job.0 % 2 {
        0 => call.durability(ONE),
        _ => call,
    });
    for (n, answer) in sent.await.into_iter().enumerate() {
        match answer {
            Ok(_) => assert_eq!(n % 2, 1),
            Err(EnqueueError::Broker(BrokerError::NotDurable(_))) => assert_eq!(n % 2, 0),
            Err(error) => panic!("{error}"),
        }
    }
    replica.resume();
    let accepted = async || producer.enqueue(Job(10)).durability(ONE).await.is_ok();
    eventually("the replica is back", accepted).await;
}
