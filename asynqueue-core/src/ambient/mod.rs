//! The environment of the code: randomness, the wall clock, and where its tasks run. A simulation replaces them.

#[cfg(feature = "testing")]
pub(crate) mod node;
#[cfg(feature = "testing")]
pub(crate) mod simulated;

use std::time::SystemTime;

use rand::distr::{Distribution, StandardUniform};

use crate::task::Timestamp;

/// A random value. A simulation draws it from its seed.
pub(crate) fn random<T>() -> T
where
    StandardUniform: Distribution<T>,
{
    #[cfg(feature = "testing")]
    if let Some(value) = simulated::draw(|chance| StandardUniform.sample(chance)) {
        return value;
    }
    rand::random()
}

/// The time by this machine's clock.
pub(crate) fn system_time() -> Timestamp {
    #[cfg(feature = "testing")]
    if let Some(time) = simulated::time() {
        return time;
    }
    let age = SystemTime::UNIX_EPOCH.elapsed();
    // Rounded down: a time that is not reached must not count as reached.
    Timestamp::from_millis(age.map_or(0, |age| age.as_millis() as u64))
}

/// Whether this thread runs a simulation, which uses no other threads.
pub(crate) fn is_simulated() -> bool {
    #[cfg(feature = "testing")]
    return simulated::time().is_some();
    #[cfg(not(feature = "testing"))]
    false
}

/// A task to be spawned. In a simulation it stays on the node that spawns it.
#[cfg(not(feature = "testing"))]
pub(crate) fn here<F: Future>(task: F) -> F {
    task
}

#[cfg(feature = "testing")]
pub(crate) use self::node::here;
