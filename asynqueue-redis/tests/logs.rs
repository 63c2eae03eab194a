//! Log lines for operators.

mod common;

use std::{
    fmt::{Debug, Write},
    sync::Arc,
    time::Duration,
};

use asynqueue_core::broker::Control;
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_test_servers::{RedisServer, eventually};
use parking_lot::Mutex;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// Collects the log lines of this crate.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("asynqueue")
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().push(line.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").expect("written");
    }
}

#[tokio::test]
async fn a_policy_that_may_evict_tasks_logs_a_warning() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    // No key expires here, so a policy for expiring keys evicts no task.
    for safe in ["noeviction", "volatile-lru", "volatile-ttl"] {
        let safe = RedisServer::with(&["--maxmemory-policy", safe]).await;
        common::connect(&safe.url()).await;
        assert_eq!(*log.0.lock(), Vec::<String>::new());
    }
    let unsafe_ = RedisServer::with(&["--maxmemory-policy", "allkeys-lru"]).await;
    common::connect(&unsafe_.url()).await;
    let lines = log.0.lock().clone();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("WARN") && lines[0].contains("allkeys-lru"),
        "{lines:?}"
    );
    assert!(
        lines[0].contains("set `maxmemory-policy` to `noeviction`"),
        "{lines:?}"
    );
}

#[tokio::test]
async fn the_loss_and_the_recovery_of_redis_are_logged_once_each() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let mut server = RedisServer::with(&["--requirepass", "secret"]).await;
    let url = server.url().replace("redis://", "redis://:secret@");
    let options = RedisOptions::new(&url)
        .expect("a URL")
        .retry_for(Duration::from_millis(200));
    let broker = RedisBroker::connect(options).await.expect("a connection");
    server.kill();
    for _ in 0..3 {
        let error = broker.ping().await.expect_err("it is away").to_string();
        assert!(
            error.contains(&format!("127.0.0.1:{}", server.port())),
            "{error}"
        );
    }
    server.start_again().await;
    eventually("it responds", || async { broker.ping().await.is_ok() }).await;
    broker.ping().await.expect("it still does");
    let lines = log.0.lock().clone();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].contains("WARN") && lines[0].contains("Redis is not responding; retrying"),
        "{lines:?}"
    );
    assert!(
        lines[1].contains("INFO") && lines[1].contains("Redis is responding again"),
        "{lines:?}"
    );
    assert!(!lines.concat().contains("secret"), "{lines:?}");
}
