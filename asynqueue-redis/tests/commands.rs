//! How much Redis has to do.

mod common;

use asynqueue_core::{Broker, Leased, Outcome};
use asynqueue_redis::RedisBroker;
use asynqueue_test_servers::{Monitor, RedisServer};
use common::{connect, lease, send, task};
use tokio::task::JoinSet;

/// The commands that enqueueing, leasing and settling so many tasks take.
async fn commands(broker: &RedisBroker, server: &RedisServer, tasks: usize) -> Vec<usize> {
    let mut counts = Vec::new();
    let mut leased = Vec::new();
    for step in 0..3 {
        let monitor = Monitor::start(server).await;
        match step {
            0 => send(broker, (0..tasks).map(|n| task("q", &n.to_string()))).await,
            1 => leased = lease(broker, "q", tasks + 1).await,
            _ => {
                let complete = |leased: Leased| leased.settle(Outcome::Complete { result: None });
                let settlements: Vec<_> = leased.drain(..).map(complete).collect();
                assert_eq!(settlements.len(), tasks);
                broker.settle(&settlements).await.expect("settled");
            }
        }
        counts.push(monitor.stop().await.len());
    }
    counts
}

#[tokio::test]
async fn a_batch_takes_the_same_commands_whatever_its_size() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    // Scripts are loaded, and the queue's name is listed.
    commands(&broker, &server, 2).await;
    let (few, many) = (
        commands(&broker, &server, 2).await,
        commands(&broker, &server, 450).await,
    );
    assert_eq!(few, many);
    assert!(many.iter().all(|count| *count < 15), "{many:?}");
}

#[tokio::test]
async fn tasks_that_are_enqueued_at_once_go_out_together() {
    const TASKS: usize = 1_000;
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    send(&broker, [task("q", "first")]).await;
    let monitor = Monitor::start(&server).await;
    let mut producers = JoinSet::new();
    for n in 0..TASKS {
        let broker = broker.clone();
        producers.spawn(async move { send(&broker, [task("q", &n.to_string())]).await });
    }
    producers.join_all().await;
    let seen = monitor.stop().await;
    let calls = seen
        .iter()
        .filter(|command| command.words[0].starts_with(b"EVAL"))
        .count();
    assert!(calls <= TASKS / 20, "{calls} calls");
    assert_eq!(lease(&broker, "q", 2 * TASKS).await.len(), TASKS + 1);
}
