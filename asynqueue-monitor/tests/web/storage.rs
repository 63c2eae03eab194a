//! The storage page, with a real Redis Cluster.

use asynqueue_core::producer::Producer;
use asynqueue_monitor::Monitor;
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_test_servers::RedisCluster;

use super::site::Email;

#[tokio::test]
async fn cluster_nodes_are_shown_with_their_details_and_queues_with_their_slots() {
    let cluster = RedisCluster::start().await;
    let options = RedisOptions::new(&cluster.url()).expect("an address");
    let broker = RedisBroker::connect(options).await.expect("connected");
    let email = Email { to: "ada".into() };
    let enqueue = Producer::new(broker.clone()).enqueue(email).await;
    enqueue.expect("accepted");
    let monitor = Monitor::new(broker);
    let endpoint = monitor.serve("127.0.0.1:0").await.expect("served");
    let url = format!("http://{}/storage", endpoint.address());
    let response = reqwest::get(url).await.expect("a response");
    let page = response.text().await.expect("text");
    for node in cluster.nodes() {
        let (_, address) = node
            .url()
            .split_once("://")
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .expect("an address");
        assert!(page.contains(&address), "{address}: {page}");
    }
    for part in ["Queue placement", "connected_clients", "maxmemory_policy"] {
        assert!(page.contains(part), "{part}: {page}");
    }
}
