//! Each way to connect to Redis, and the errors when it fails.

mod common;

use std::time::Duration;

use asynqueue_core::{
    broker::{Broker, BrokerError, Control, Inspect, all_of},
    task::TaskState,
};
use asynqueue_redis::{ConnectError, RedisBroker, RedisOptions};
use asynqueue_test_servers::{RedisCluster, RedisSentinel, RedisServer, TlsRedis};
use common::{connect, process_all, send, task};
use redis::cmd;

/// Checks that tasks run.
async fn assert_works(options: RedisOptions) {
    let broker = RedisBroker::connect(options).await.expect("a connection");
    send(&broker, (0..50).map(|n| task("q", &n.to_string()))).await;
    assert_eq!(process_all(&broker, "q", 50).await.len(), 50);
}

async fn refused(url: &str) -> String {
    let options = RedisOptions::new(url).expect(url);
    let error = RedisBroker::connect(options)
        .await
        .expect_err("not to be reached");
    assert!(!error.to_string().contains("secret"), "{error}");
    error.to_string()
}

#[tokio::test]
async fn tls_requires_a_trusted_ca() {
    let server = TlsRedis::start(false).await;
    let url = server.bare_url();
    let error = refused(&url).await;
    assert!(
        error.contains("cannot reach Redis at 127.0.0.1:"),
        "{error}"
    );
    let with_ca = format!("{url}?ca={}", server.file("ca.pem"));
    assert_works(RedisOptions::new(&with_ca).expect("a URL")).await;
    let insecure = format!("{url}?insecure_skip_verify=true");
    assert_works(RedisOptions::new(&insecure).expect("a URL")).await;
}

#[tokio::test]
async fn tls_may_require_a_client_certificate() {
    let server = TlsRedis::start(true).await;
    let with_ca = format!("{}?ca={}", server.bare_url(), server.file("ca.pem"));
    refused(&with_ca).await;
    let (cert, key) = (server.file("client.pem"), server.file("client.key"));
    let with_both = format!("{with_ca}&cert={cert}&key={key}");
    assert_works(RedisOptions::new(&with_both).expect("a URL")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_return_the_new_master_after_a_failover() {
    let mut servers = RedisSentinel::start().await;
    let broker = connect(&servers.url()).await;
    let mut signals = broker.signals(&["q".into()]).await.expect("signals");
    send(&broker, [task("q", "before")]).await;
    servers.fail_over().await;
    // The old connections lead nowhere, and listeners are notified by the end of their stream.
    let ended = async { while futures_util::StreamExt::next(&mut signals).await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(20), ended)
        .await
        .expect("the signals end");
    send(&broker, [task("q", "after")]).await;
    assert_eq!(process_all(&broker, "q", 2).await, ["before", "after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_sentinels_or_their_master_refuse_is_explained() {
    let servers = RedisSentinel::start().await;
    for server in servers.servers() {
        let mut config = cmd("CONFIG");
        let config = config.arg(&["SET", "requirepass", "admin"]);
        let mut admin = server.connection().await;
        let _: () = config.query_async(&mut admin).await.expect("set");
    }
    let error = refused(&servers.url()).await;
    let reason = "refused the connection: the master or a Sentinel requires a password: write `redis+sentinel://user:password@host` for the master, `sentinel_password` for the Sentinels";
    assert!(error.ends_with(reason), "{error}");
    let error = refused(&format!("{}&sentinel_password=secret", servers.url())).await;
    let reason = "refused the connection: wrong user or password (WRONGPASS): correct the login of the master, or `sentinel_user` and `sentinel_password`, in the URL";
    assert!(error.ends_with(reason), "{error}");
}

#[tokio::test]
async fn user_password_database_and_prefix_are_used() {
    let server = RedisServer::with(&["--requirepass", "admin"]).await;
    let port = server.port();
    let url = |login: &str| format!("redis://{login}127.0.0.1:{port}/2?prefix=shop");
    assert_eq!(
        refused(&url("")).await,
        format!(
            "Redis at 127.0.0.1:{port} requires a password: write `redis://:password@host` or `redis://user:password@host`"
        )
    );
    let without_database = format!("redis://127.0.0.1:{port}");
    assert_eq!(refused(&without_database).await, refused(&url("")).await);
    assert_eq!(
        refused(&url("ada:secret@")).await,
        format!(
            "Redis at 127.0.0.1:{port} refused the login: wrong user or password (WRONGPASS): correct them in the URL"
        )
    );
    let of_default = refused(&url(":secret@")).await;
    assert_eq!(of_default, refused(&url("ada:secret@")).await);
    assert_eq!(
        refused(&format!("redis://:admin@127.0.0.1:{port}/99")).await,
        format!(
            "Redis at 127.0.0.1:{port} has no database 99: use a lower number, or raise `databases` in its configuration"
        )
    );

    let admin = redis::Client::open(format!("redis://:admin@127.0.0.1:{port}/2")).expect("a URL");
    let mut admin = admin
        .get_multiplexed_async_connection()
        .await
        .expect("a connection");
    let mut acl = cmd("ACL");
    acl.arg(&[
        "SETUSER",
        "ada",
        "on",
        ">s%cret",
        "resetchannels",
        "~shop:*",
        "&shop:*",
        "+@all",
        "-@dangerous",
        "+info",
    ]);
    let _: () = acl.query_async(&mut admin).await.expect("a user");
    assert_works(RedisOptions::new(&url("ada:s%25cret@")).expect("a URL")).await;
    let keys: Vec<String> = cmd("KEYS")
        .arg("*")
        .query_async(&mut admin)
        .await
        .expect("keys");
    assert!(
        !keys.is_empty() && keys.iter().all(|key| key.starts_with("shop:")),
        "{keys:?}"
    );

    let other = RedisOptions::new(&url("ada:s%25cret@"))
        .expect("a URL")
        .prefix("other")
        .expect("a prefix");
    let broker = RedisBroker::connect(other).await.expect("a connection");
    let error = broker.queues().await.expect_err("not its keys");
    assert!(
        error.to_string().contains("`ACL SETUSER ada ~other:*`"),
        "{error}"
    );
}

#[tokio::test]
async fn an_unreachable_server_is_named() {
    let server = RedisServer::start().await;
    let (url, port) = (server.url(), server.port());
    drop(server);
    for (url, start) in [
        (
            url.clone(),
            format!("cannot reach Redis at 127.0.0.1:{port}: Connection refused"),
        ),
        (
            url.replace("redis://", "redis+cluster://"),
            format!("cannot reach Redis at Cluster 127.0.0.1:{port}: Connection refused"),
        ),
        (
            "redis://no-such-host.invalid".to_owned(),
            "cannot reach Redis at no-such-host.invalid:6379: failed to lookup address information: "
                .to_owned(),
        ),
        (
            "redis+cluster://no-such-host.invalid".to_owned(),
            "cannot reach Redis at Cluster no-such-host.invalid:6379: failed to lookup address information: "
                .to_owned(),
        ),
    ] {
        let error = refused(&url).await;
        assert!(
            error.starts_with(&start) && error.ends_with(": check the URL and that Redis is running"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn tls_on_a_port_without_tls_is_explained() {
    let server = RedisServer::start().await;
    let url = server.url().replace("redis://", "rediss://");
    let error = refused(&format!("{url}?connect_timeout=200ms")).await;
    let hint = ": if the port does not serve TLS, write `redis` instead of `rediss` in the URL";
    assert!(
        error.starts_with("cannot reach Redis at 127.0.0.1:") && error.ends_with(hint),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_a_cluster_refuses_is_explained() {
    let cluster = RedisCluster::start().await;
    for node in cluster.nodes() {
        let mut config = cmd("CONFIG");
        let config = config.arg(&["SET", "requirepass", "admin"]);
        let mut admin = node.connection().await;
        let _: () = config.query_async(&mut admin).await.expect("set");
    }
    let url = cluster.url();
    let hosts = url.trim_start_matches("redis+cluster://");
    assert_eq!(
        refused(&url).await,
        format!(
            "Redis at Cluster {hosts} requires a password: write `redis://:password@host` or `redis://user:password@host`"
        )
    );
    assert_eq!(
        refused(&format!("redis+cluster://:secret@{hosts}")).await,
        format!(
            "Redis at Cluster {hosts} refused the login: wrong user or password (WRONGPASS): correct them in the URL"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_and_a_single_server_are_not_confused() {
    let (server, cluster) = (RedisServer::start().await, RedisCluster::start().await);
    let error = refused(&cluster.nodes()[0].url()).await;
    assert!(
        error.contains("write `redis+cluster://` instead of `redis://`"),
        "{error}"
    );
    let error = refused(&server.url().replace("redis://", "redis+cluster://")).await;
    assert_eq!(
        error,
        format!(
            "Redis at 127.0.0.1:{} is not a cluster: write `redis://` instead of `redis+cluster://`",
            server.port()
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_programs_own_pool_is_used() {
    let server = RedisServer::start().await;
    let pool = deadpool_redis::Config::from_url(server.url());
    let pool = pool
        .create_pool(Some(deadpool_redis::Runtime::Tokio1))
        .expect("a pool");
    let options = RedisOptions::new(&server.url()).expect("a URL");
    assert_works(options.pool(pool.clone())).await;
    assert!(pool.status().size > 0, "{:?}", pool.status());

    let of_cluster = RedisOptions::new("redis+cluster://127.0.0.1:1").expect("a URL");
    let error = RedisBroker::connect(of_cluster.pool(pool))
        .await
        .expect_err("elsewhere");
    assert!(
        error
            .to_string()
            .contains("the pool connects to one server and the URL to a Cluster"),
        "{error}"
    );

    let cluster = RedisCluster::start().await;
    let nodes: Vec<_> = cluster.nodes().iter().map(RedisServer::url).collect();
    let pool = deadpool_redis::cluster::Config::from_urls(nodes);
    let pool = pool
        .create_pool(Some(deadpool_redis::Runtime::Tokio1))
        .expect("a pool");
    let options = RedisOptions::new(&cluster.url()).expect("a URL");
    assert_works(options.pool(pool.clone())).await;
    assert!(pool.status().size > 0, "{:?}", pool.status());
}

fn pool(url: &str, max_size: usize) -> deadpool_redis::Pool {
    let config = deadpool_redis::Config::from_url(url);
    let builder = config.builder().expect("a pool").max_size(max_size);
    let builder = builder.runtime(deadpool_redis::Runtime::Tokio1);
    builder.build().expect("a pool")
}

#[tokio::test]
async fn a_pool_that_is_too_small_for_the_broker_is_refused_with_the_setting() {
    let server = RedisServer::start().await;
    let options = RedisOptions::new(&server.url())
        .expect("a URL")
        .connect_timeout(Duration::from_millis(200));
    let connect = async |pool: &deadpool_redis::Pool| {
        let connecting = RedisBroker::connect(options.clone().pool(pool.clone()));
        let in_time = tokio::time::timeout(Duration::from_secs(30), connecting);
        in_time.await.expect("no hang")
    };
    let error = connect(&pool(&server.url(), 1)).await.expect_err("one");
    assert!(
        error.to_string().contains(
            "`max_size` of the pool is 1, but the broker keeps 2 connections (`pool_size`): raise `max_size` to the sum that all users of the pool need"
        ),
        "{error}"
    );

    // Two brokers share a pool that is large enough for one.
    let shared = pool(&server.url(), 3);
    let first = connect(&shared).await.expect("enough");
    let error = connect(&shared).await.expect_err("not enough");
    assert!(matches!(&error, ConnectError::Pool { .. }), "{error:?}");
    for part in ["`pool_size`", "3 (`max_size`)", "raise `max_size`"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    drop(first);
    let second = connect(&shared).await.expect("released");
    second.ping().await.expect("it works");
}

#[tokio::test]
async fn a_pool_that_the_program_emptied_fails_calls_in_time_and_recovers() {
    let server = RedisServer::start().await;
    let mut admin = server.connection().await;
    let pool = pool(&server.url(), 2);
    let options = RedisOptions::new(&server.url())
        .expect("a URL")
        .retry_for(Duration::from_millis(300))
        .pool(pool.clone());
    let broker = RedisBroker::connect(options).await.expect("enough");
    // The program waits for connections, so that it gets the ones that the broker loses.
    let programs = [0, 1].map(|_| {
        let pool = pool.clone();
        tokio::spawn(async move { pool.get().await.expect("a connection") })
    });
    let wait = || async { pool.status().waiting == 2 };
    asynqueue_test_servers::eventually("the program waits", wait).await;
    let _: i64 = cmd("CLIENT")
        .arg(&["KILL", "SKIPME", "yes", "TYPE", "normal"])
        .query_async(&mut admin)
        .await
        .expect("killed");
    let fails = || async {
        let answer = tokio::time::timeout(Duration::from_secs(20), broker.ping()).await;
        let error = answer.expect("no hang").err();
        error.is_some_and(|error| error.to_string().contains("raise `max_size`"))
    };
    asynqueue_test_servers::eventually("it names the setting", fails).await;
    for program in programs {
        drop(program.await.expect("a connection"));
    }
    let works = || async { broker.ping().await.is_ok() };
    asynqueue_test_servers::eventually("it works again", works).await;
}

#[tokio::test]
async fn a_pool_with_another_database_than_the_url_is_refused() {
    let server = RedisServer::start().await;
    let pool = pool(&format!("{}/3", server.url()), 4);
    let at = |db: i64| RedisOptions::new(&format!("{}/{db}", server.url())).expect("a URL");
    let error = RedisBroker::connect(at(1).pool(pool.clone())).await;
    let error = error.expect_err("elsewhere").to_string();
    assert!(
        error.contains("the pool uses database 3, but the URL names database 1"),
        "{error}"
    );
    assert_works(at(3).pool(pool)).await;
}

#[tokio::test]
async fn a_redis_without_memory_accepts_no_tasks_but_lets_workers_drain() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    let mut admin = server.connection().await;
    send(&broker, (0..100).map(|n| task("q", &n.to_string()))).await;
    let set = async |admin: &mut redis::aio::MultiplexedConnection, limit: &str| {
        let mut config = cmd("CONFIG");
        let _: () = config
            .arg("SET")
            .arg("maxmemory")
            .arg(limit)
            .query_async(admin)
            .await
            .expect("set");
    };
    // Less than any version uses when empty.
    set(&mut admin, "1kb").await;
    let one_more = vec![common::now(task("q", "more"))];
    let refused = broker.enqueue(one_more.clone()).await.expect_err("full");
    assert!(matches!(&refused, BrokerError::Full(_)), "{refused:?}");
    assert!(refused.to_string().contains("`maxmemory`"), "{refused}");
    // Leasing, extending and settling all succeed.
    let leased = common::lease(&broker, "q", 10).await;
    let leases: Vec<_> = leased
        .iter()
        .map(asynqueue_core::broker::Leased::lease)
        .collect();
    let extended = all_of(broker.extend(&leases, Duration::from_secs(60)).await).expect("extended");
    assert!(
        extended
            .iter()
            .all(|answer| *answer == asynqueue_core::broker::Extended::Yes)
    );
    let settled: Vec<_> = leased
        .into_iter()
        .map(|leased| leased.settle(asynqueue_core::broker::Outcome::Release))
        .collect();
    all_of(broker.settle(&settled).await).expect("released");
    assert_eq!(process_all(&broker, "q", 100).await.len(), 100);
    set(&mut admin, "0").await;
    broker.enqueue(one_more).await.expect("room again")[0]
        .clone()
        .expect("accepted");
    let stats = broker.stats(&["q".into()]).await.expect("stats").remove(0);
    assert_eq!((stats.count(TaskState::Pending), stats.succeeded), (1, 100));
}

#[tokio::test]
async fn a_closed_broker_stays_closed() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    broker.close().await;
    assert!(matches!(broker.ping().await, Err(BrokerError::Closed)));
}

#[test]
fn a_version_that_is_too_old_is_named() {
    let error = ConnectError::TooOld {
        address: "host:1".into(),
        found: "5.0.7".into(),
    };
    assert_eq!(
        error.to_string(),
        "Redis at host:1 is version 5.0.7: expected 6.2 or later"
    );
}
