//! A child process: its role, its identity, and its connection to the store.

mod operator;
mod producer;
mod worker;

use std::{future::Future, path::PathBuf, time::Duration};

use asynqueue_core::broker::SharedBroker;

pub(crate) use self::worker::entries;
use super::{dice::Dice, journal::Journal};

pub(crate) const NAME: &str = "ASYNQUEUE_CHAOS_CHILD";
pub(crate) const URL: &str = "ASYNQUEUE_CHAOS_URL";
pub(crate) const DIR: &str = "ASYNQUEUE_CHAOS_DIR";
pub(crate) const SEED: &str = "ASYNQUEUE_CHAOS_CHILD_SEED";

/// A child process, from its own view.
pub(crate) struct Child {
    /// `ROLE_PLACE.INCARNATION`, as in `worker_2.5`.
    pub(crate) name: String,
    pub(crate) journal: Journal,
    pub(crate) broker: SharedBroker,
    pub(crate) dice: Dice,
}

/// Plays the role that [`run`](super::run) has assigned to this process, until it is requested to end. Does nothing in
/// a process that is not a child. Connects by this function to the URL of its place.
///
/// # Panics
///
/// If the process cannot do its part. The run fails.
pub async fn child<F, E>(connect: impl Fn(String) -> F)
where
    F: Future<Output = Result<SharedBroker, E>>,
{
    let Ok(name) = std::env::var(NAME) else {
        return;
    };
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is set"));
    let seed = variable(SEED).parse().expect("a seed");
    let child = Child {
        journal: Journal::create(&PathBuf::from(variable(DIR)), &name),
        broker: connected(connect, &variable(URL)).await,
        dice: Dice::new(seed, &name),
        name,
    };
    match child.name.split('_').next() {
        Some("worker") => worker::run(child).await,
        Some("producer") => producer::run(child).await,
        _ => operator::run(child).await,
    }
}

/// Connects, however long it takes: the store may be out of reach just now.
async fn connected<F, E>(connect: impl Fn(String) -> F, url: &str) -> SharedBroker
where
    F: Future<Output = Result<SharedBroker, E>>,
{
    loop {
        match connect(url.to_owned()).await {
            Ok(broker) => return broker,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Waits until the parent closes its end of the pipe, which requests this process to end.
async fn end_requested() {
    let closed = tokio::task::spawn_blocking(|| std::io::stdin().lines().count());
    closed.await.expect("read");
}
