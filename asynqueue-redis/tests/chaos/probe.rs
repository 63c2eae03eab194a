//! Checks whether Redis responds at all. If the machine has no time for it, that counts as a fault for all.

use std::time::{Duration, Instant};

use asynqueue_test_servers::RedisServer;
use redis::cmd;
use tokio::task::JoinHandle;

use super::{journal::now, settings::RESPONSE_TIMEOUT, stage::Stage};

const PAUSE: Duration = Duration::from_millis(100);

/// Checks until it is aborted.
pub(crate) async fn start(stage: &Stage) -> JoinHandle<()> {
    let journal = stage.journal.clone();
    let store = stage.store.read().await;
    let urls: Vec<_> = store.nodes().iter().map(RedisServer::url).collect();
    tokio::spawn(async move {
        loop {
            let (from, begin) = (now(), Instant::now());
            for url in &urls {
                ping(url).await;
            }
            // Each check opens a new connection, so it takes longer than a client's call.
            if begin.elapsed() > RESPONSE_TIMEOUT / 2 {
                journal.note(format!("slow {from}")).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    })
}

async fn ping(url: &str) -> Option<()> {
    let client = redis::Client::open(url).ok()?;
    let mut connection = client.get_multiplexed_async_connection().await.ok()?;
    cmd("PING").query_async::<()>(&mut connection).await.ok()
}
