//! Unique locks that have expired.

use asynqueue_core::{
    broker::Control,
    task::{Clock, UniqueUntil},
    testing::TestClock,
};
use asynqueue_test_servers::{Monitor, RedisServer, Seen};
use redis::AsyncCommands;

use crate::{HOUR, at, common::send, len, maintain, unique};

#[tokio::test]
async fn expired_locks_are_removed_and_no_others_are_read() {
    let server = RedisServer::start().await;
    let clock = TestClock::default();
    let broker = at(&server, &clock).await;
    let locks = |n: usize| {
        let ttl = if n < 100 { HOUR / 2 } else { HOUR * 2 };
        unique(&format!("{n:04}"), UniqueUntil::Success, ttl)
    };
    send(&broker, (0..2_000).map(locks)).await;
    clock.advance(HOUR);
    let monitor = Monitor::start(&server).await;
    maintain(&broker, &["q".into()]).await;
    let seen = monitor.stop().await;
    let reads_all = |seen: &&Seen| {
        let name = String::from_utf8_lossy(&seen.words[0]).to_lowercase();
        let of_locks = seen.words.get(1).is_some_and(|key| key == b"aq:{q}:locks");
        of_locks && ["hscan", "hgetall", "hkeys"].contains(&&*name)
    };
    assert_eq!(seen.iter().filter(reads_all).count(), 0);
    let mut connection = server.connection().await;
    for part in ["locks", "lock_ends"] {
        assert_eq!(len(&mut connection, part).await, 1_900, "{part}");
    }
}

/// Older builds do not maintain the expiry set.
#[tokio::test]
async fn locks_that_older_builds_took_or_released_are_found_when_the_counts_differ() {
    let server = RedisServer::start().await;
    let clock = TestClock::default();
    let broker = at(&server, &clock).await;
    let ours = ["a", "b", "c"].map(|id| unique(id, UniqueUntil::Window, HOUR));
    send(&broker, ours).await;
    let mut connection = server.connection().await;
    let ends = (clock.now() + HOUR / 2).as_millis();
    let () = connection
        .hset("aq:{q}:locks", "theirs", format!("{ends}w:x"))
        .await
        .expect("set");
    let () = connection
        .hset("aq:{q}:locks", "too", format!("{ends}w:y"))
        .await
        .expect("set");
    let () = connection.hdel("aq:{q}:locks", "b").await.expect("deleted");
    maintain(&broker, &["q".into()]).await;
    for part in ["locks", "lock_ends"] {
        assert_eq!(len(&mut connection, part).await, 4, "{part}");
    }
    broker.close().await;
    clock.advance(HOUR);
    maintain(&at(&server, &clock).await, &["q".into()]).await;
    for part in ["locks", "lock_ends"] {
        assert_eq!(len(&mut connection, part).await, 0, "{part}");
    }
}
