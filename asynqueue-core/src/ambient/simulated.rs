//! The environment of a thread that runs a simulation.

use std::{cell::RefCell, sync::Arc};

use rand::{SeedableRng, rngs::Xoshiro256PlusPlus};

use crate::task::{Clock, Timestamp};

thread_local! {
    static SURROUNDINGS: RefCell<Option<Surroundings>> = const { RefCell::new(None) };
}

#[derive(Debug)]
struct Surroundings {
    /// A fixed algorithm, so that a seed has the same meaning forever.
    chance: Xoshiro256PlusPlus,
    clock: Arc<dyn Clock>,
}

/// Ends the simulation of this thread on drop.
#[derive(Debug)]
pub(crate) struct Entered(());

impl Drop for Entered {
    fn drop(&mut self) {
        SURROUNDINGS.take();
    }
}

/// Makes this thread run a simulation until the guard is dropped.
pub(crate) fn enter(seed: u64, clock: Arc<dyn Clock>) -> Entered {
    let chance = Xoshiro256PlusPlus::seed_from_u64(seed);
    SURROUNDINGS.set(Some(Surroundings { chance, clock }));
    Entered(())
}

/// Draws from the simulation's random numbers, if this thread runs a simulation.
pub(crate) fn draw<T>(draw: impl FnOnce(&mut Xoshiro256PlusPlus) -> T) -> Option<T> {
    SURROUNDINGS.with_borrow_mut(|surroundings| {
        let surroundings = surroundings.as_mut()?;
        Some(draw(&mut surroundings.chance))
    })
}

/// The simulation's time, if this thread runs a simulation.
pub(crate) fn time() -> Option<Timestamp> {
    SURROUNDINGS.with_borrow(|surroundings| {
        let surroundings = surroundings.as_ref()?;
        Some(surroundings.clock.now())
    })
}
