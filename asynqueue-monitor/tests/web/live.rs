//! What following the figures costs the broker.

use asynqueue_core::{Inspector, Producer, SharedBroker};
use asynqueue_monitor::Monitor;
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_test_servers::RedisServer;
use reqwest::Response;

use super::site::Email;

/// Reads until so many looks were told.
async fn read(answer: &mut Response, looks: usize) {
    let mut told = 0;
    while told < looks {
        let chunk = answer.chunk().await.expect("it goes on");
        let chunk = chunk.expect("it goes on");
        told += String::from_utf8_lossy(&chunk).matches("data:").count();
    }
}

async fn commands(broker: &SharedBroker) -> u64 {
    let nodes = Inspector::new(broker.clone()).nodes().await;
    let nodes = nodes.expect("answered");
    let mut told = nodes[0].info.iter();
    let found = told.find(|(name, _)| name == "total_commands_processed");
    let (_, count) = found.expect("told");
    count.parse().expect("a number")
}

/// The commands that Redis gets while so many viewers are told of four looks.
async fn commands_for(viewers: usize) -> u64 {
    let redis = RedisServer::start().await;
    let options = RedisOptions::new(&redis.url()).expect("an address");
    let broker: SharedBroker = RedisBroker::connect(options)
        .await
        .expect("connected")
        .into();
    let email = Email { to: "ada".into() };
    let task = Producer::new(broker.clone()).enqueue(email).await;
    task.expect("accepted");
    let endpoint = Monitor::new(broker.clone()).serve("127.0.0.1:0").await;
    let endpoint = endpoint.expect("served");
    let mut answers = Vec::new();
    for _ in 0..viewers {
        let url = format!("http://{}/live", endpoint.address());
        answers.push(reqwest::get(url).await.expect("an answer"));
    }
    for answer in &mut answers {
        read(answer, 1).await;
    }
    let before = commands(&broker).await;
    read(&mut answers[0], 4).await;
    commands(&broker).await - before
}

#[tokio::test]
async fn many_who_look_cost_the_broker_no_more_than_one() {
    let (one, many) = (commands_for(1).await, commands_for(30).await);
    assert!(many < 2 * one, "{one} commands for one, {many} for many");
}
