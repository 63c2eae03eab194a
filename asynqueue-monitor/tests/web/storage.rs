//! Where the tasks are kept, on a real Redis Cluster.

use asynqueue_core::Producer;
use asynqueue_monitor::Monitor;
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_test_servers::RedisCluster;

use super::site::Email;

#[tokio::test]
async fn each_node_of_a_cluster_tells_of_itself_and_each_queue_of_its_place() {
    let cluster = RedisCluster::start().await;
    let options = RedisOptions::new(&cluster.url()).expect("an address");
    let broker = RedisBroker::connect(options).await.expect("connected");
    let email = Email { to: "ada".into() };
    let enqueue = Producer::new(broker.clone()).enqueue(email).await;
    enqueue.expect("accepted");
    let monitor = Monitor::new(broker);
    let endpoint = monitor.serve("127.0.0.1:0").await.expect("served");
    let url = format!("http://{}/storage", endpoint.address());
    let answer = reqwest::get(url).await.expect("an answer");
    let page = answer.text().await.expect("text");
    for node in cluster.nodes() {
        let (_, address) = node
            .url()
            .split_once("://")
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .expect("an address");
        assert!(page.contains(&address), "{address}: {page}");
    }
    for part in [
        "Places of queues",
        "<td>slot ",
        "<td>primary",
        "connected_clients",
        "maxmemory_policy",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
}
