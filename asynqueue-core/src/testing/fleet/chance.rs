//! Random numbers from a seed.

use rand::{RngExt, rngs::Xoshiro256PlusPlus};

use crate::ambient::simulated;

/// A random number below `end`, which is not zero.
pub(super) fn below_of(chance: &mut Xoshiro256PlusPlus, end: u64) -> u64 {
    chance.random_range(0..end)
}

/// A random number below `end`, from the simulation's seed.
pub(super) fn below(end: u64) -> u64 {
    // Outside of a simulation nothing is random.
    simulated::draw(|chance| below_of(chance, end)).unwrap_or_default()
}

/// True in `percent` of 100 cases.
pub(super) fn chance(percent: u8) -> bool {
    below(100) < u64::from(percent)
}
