//! The environment of the code: randomness, the wall clock, and where its tasks run. A simulation replaces them.

mod entropy;
#[cfg(feature = "testing")]
pub(crate) mod node;
#[cfg(feature = "testing")]
pub(crate) mod simulated;

use std::time::SystemTime;

use crate::task::Timestamp;

/// A random value. A simulation draws it from its seed.
pub(crate) fn random<T: Random>() -> T {
    #[cfg(feature = "testing")]
    if let Some(value) = simulated::draw(|chance| T::random(|| rand::Rng::next_u64(chance))) {
        return value;
    }
    T::random(entropy::next)
}

/// A value made of random numbers.
pub(crate) trait Random {
    /// The value for the next numbers.
    fn random(next: impl FnMut() -> u64) -> Self;
}

impl Random for u64 {
    fn random(mut next: impl FnMut() -> u64) -> Self {
        next()
    }
}

impl Random for u128 {
    fn random(mut next: impl FnMut() -> u64) -> Self {
        let low = next();
        u128::from(next()) << 64 | u128::from(low)
    }
}

/// At least 0 and less than 1.
impl Random for f64 {
    fn random(mut next: impl FnMut() -> u64) -> Self {
        // An `f64` has 53 bits of precision.
        (next() >> 11) as f64 / (1_u64 << 53) as f64
    }
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

#[cfg(all(test, feature = "testing"))]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

    use super::Random;

    /// Recorded seeds depend on it.
    #[test]
    fn a_seed_draws_the_values_of_rand() {
        let mut ours = Xoshiro256PlusPlus::seed_from_u64(7);
        let mut theirs = ours.clone();
        let mut next = || rand::Rng::next_u64(&mut ours);
        for _ in 0..100 {
            assert_eq!(u64::random(&mut next), theirs.random::<u64>());
            assert_eq!(u128::random(&mut next), theirs.random::<u128>());
            assert_eq!(f64::random(&mut next), theirs.random::<f64>());
        }
    }
}
