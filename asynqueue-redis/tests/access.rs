//! Users with few permissions: the documented rules are sufficient, and errors name a missing rule.

mod common;
#[path = "common/rules.rs"]
mod rules;

use asynqueue_core::broker::{Broker, BrokerError, Control, Inspect};
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_test_servers::{RedisCluster, RedisSentinel, RedisServer};
use common::{connect, now, process_all, send, task};
use redis::cmd;
use rules::{Rules, as_user};

async fn assert_works(url: &str) {
    let broker = connect(&as_user(url)).await;
    let signals = broker.signals(&["q".into()]).await;
    drop(signals.expect("channels to listen to"));
    send(&broker, (0..50).map(|n| task("q", &n.to_string()))).await;
    assert_eq!(process_all(&broker, "q", 50).await.len(), 50);
    broker.stats(&["q".into()]).await.expect("figures");
    assert!(!broker.nodes().await.expect("the servers").is_empty());
}

#[tokio::test]
async fn the_documented_user_works_on_one_server() {
    for rules in [Rules::Short, Rules::ByName] {
        let server = RedisServer::start().await;
        rules.apply(&server, &[]).await;
        assert_works(&server.url()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_user_works_on_a_cluster() {
    let cluster = RedisCluster::start().await;
    for node in cluster.nodes() {
        Rules::Short.apply(node, &[]).await;
    }
    assert_works(&cluster.url()).await;
    let is_sharded = major_version(&cluster.nodes()[0]).await >= 7;
    let sharded = ["+spublish", "+ssubscribe", "+sunsubscribe"];
    let mut more = vec!["+cluster|slots", "+cluster|nodes", "+asking"];
    more.extend(sharded.into_iter().filter(|_| is_sharded));
    for node in cluster.nodes() {
        Rules::ByName.apply(node, &more).await;
    }
    assert_works(&cluster.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_user_works_with_sentinels() {
    let servers = RedisSentinel::start().await;
    for rules in [Rules::Short, Rules::ByName] {
        for server in servers.servers() {
            rules.apply(server, &[]).await;
        }
        assert_works(&servers.url()).await;
    }
}

async fn major_version(server: &RedisServer) -> u32 {
    let mut info = cmd("INFO");
    let info: String = info
        .arg("server")
        .query_async(&mut server.connection().await)
        .await
        .expect("what it is");
    let version = info
        .lines()
        .find_map(|line| line.strip_prefix("redis_version:"));
    let major = version.and_then(|version| version.split('.').next());
    major
        .and_then(|major| major.parse().ok())
        .expect("a version")
}

/// Whether the error keeps the client's error as its source.
fn is_from_redis(error: &BrokerError) -> bool {
    use std::error::Error;
    error
        .source()
        .is_some_and(|cause| cause.is::<redis::RedisError>())
}

/// The error of a broker whose user has these additional rules.
async fn denied(more: &[&str], does: impl AsyncFn(&RedisBroker) -> BrokerError) -> String {
    let server = RedisServer::start().await;
    Rules::Short.apply(&server, &[]).await;
    let broker = connect(&as_user(&server.url())).await;
    Rules::Short.apply(&server, more).await;
    let error = does(&broker).await;
    assert!(matches!(error, BrokerError::Unavailable(_)), "{error:?}");
    assert!(is_from_redis(&error), "{error:?}");
    let text = error.to_string();
    assert!(!text.contains("secret"), "{text}");
    text
}

async fn enqueue(broker: &RedisBroker) -> BrokerError {
    let tasks = vec![now(task("q", "a"))];
    broker.enqueue(tasks).await.expect_err("denied")
}

#[tokio::test]
async fn a_denied_command_is_named_with_the_rule_to_add() {
    let error = denied(&["-sadd"], enqueue).await;
    assert!(error.contains("`ACL SETUSER asynqueue +sadd`"), "{error}");
    let error = denied(&["-evalsha"], enqueue).await;
    assert!(
        error.contains("`ACL SETUSER asynqueue +evalsha`"),
        "{error}"
    );
}

#[tokio::test]
async fn a_command_that_is_denied_inside_a_script_is_named_too() {
    let error = denied(&["-hmget"], enqueue).await;
    assert!(error.contains("`ACL SETUSER asynqueue +hmget`"), "{error}");
    // Before 7.2, a server reports only the line, which may contain several commands.
    let error = denied(&["-hset"], enqueue).await;
    let rules = error.rsplit("asynqueue ").next().expect("rules");
    assert!(
        rules.split([' ', '`']).any(|rule| rule == "+hset"),
        "{error}"
    );
}

#[tokio::test]
async fn denied_keys_and_channels_lead_to_the_prefix() {
    let error = denied(&["resetkeys"], enqueue).await;
    assert!(error.contains("`ACL SETUSER asynqueue ~aq:*`"), "{error}");
    let listen = async |broker: &RedisBroker| match broker.signals(&["q".into()]).await {
        Ok(_) => panic!("denied"),
        Err(error) => error,
    };
    let error = denied(&["resetchannels"], listen).await;
    assert!(error.contains("`ACL SETUSER asynqueue &aq:*`"), "{error}");
}

#[tokio::test]
async fn connecting_without_permission_names_the_rule() {
    let server = RedisServer::start().await;
    Rules::Short.apply(&server, &["-info"]).await;
    let options = RedisOptions::new(&as_user(&server.url())).expect("a URL");
    let error = RedisBroker::connect(options).await.expect_err("denied");
    let error = error.to_string();
    assert!(error.contains("`ACL SETUSER asynqueue +info`"), "{error}");
}
