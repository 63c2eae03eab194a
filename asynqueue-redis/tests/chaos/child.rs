//! What all child processes of a run share: their identity, and the connection to Redis.

use std::{path::PathBuf, time::Duration};

use asynqueue_redis::{RedisBroker, RedisOptions};

use super::{
    journal::Journal,
    settings::{Dice, RESPONSE_TIMEOUT},
};

pub(crate) const NAME: &str = "ASYNQUEUE_CHAOS_CHILD";
pub(crate) const URL: &str = "ASYNQUEUE_CHAOS_URL";
pub(crate) const DIR: &str = "ASYNQUEUE_CHAOS_DIR";
pub(crate) const SEED: &str = "ASYNQUEUE_CHAOS_CHILD_SEED";

/// A child process, from its own view.
pub(crate) struct Child {
    /// `ROLE_PLACE.INCARNATION`, as in `worker_2.5`.
    pub(crate) name: String,
    pub(crate) journal: Journal,
    pub(crate) broker: RedisBroker,
    pub(crate) dice: Dice,
}

impl Child {
    /// This process. `None` if it is not a child.
    pub(crate) async fn this() -> Option<Self> {
        let name = std::env::var(NAME).ok()?;
        let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is set"));
        let seed = variable(SEED).parse().expect("a seed");
        Some(Self {
            journal: Journal::create(&PathBuf::from(variable(DIR)), &name),
            broker: connect(&variable(URL)).await,
            dice: Dice::new(seed, &name),
            name,
        })
    }
}

/// Connects, however long it takes: the link may be broken just now.
async fn connect(url: &str) -> RedisBroker {
    loop {
        let options = RedisOptions::new(url).expect("a URL");
        let options = options
            .connect_timeout(RESPONSE_TIMEOUT)
            .response_timeout(RESPONSE_TIMEOUT)
            .retry_for(Duration::from_secs(3));
        match RedisBroker::connect(options).await {
            Ok(broker) => return broker,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Waits until the parent closes its end of the pipe, which requests this process to end.
pub(crate) async fn end_requested() {
    let closed = tokio::task::spawn_blocking(|| std::io::stdin().lines().count());
    closed.await.expect("read");
}
