//! How much of a queue is leased at a time: what arrives in time on this link.

use parking_lot::Mutex;

/// The minimum in bytes. One task is returned regardless of its size.
const LEAST: usize = 64 << 10;

/// How many tasks are read first, while their sizes are unknown.
const FIRST_STEP: usize = 64;

/// The limit of task bytes in one response. It halves after a response that did not arrive, and grows again with each
/// that did.
#[derive(Debug)]
pub(super) struct Room {
    most: usize,
    now: Mutex<Now>,
}

#[derive(Debug, Clone, Copy)]
struct Now {
    bytes: usize,
    step: usize,
}

impl Room {
    pub(super) fn new(most: usize) -> Self {
        let now = Now {
            bytes: most,
            step: FIRST_STEP,
        };
        Self {
            most,
            now: Mutex::new(now),
        }
    }

    /// The limit in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.now.lock().bytes
    }

    /// How many tasks Redis should read first, so that it does not read many more than fit.
    pub(super) fn step(&self) -> usize {
        self.now.lock().step
    }

    /// Notes the number of tasks and bytes of a response that arrived.
    pub(super) fn arrived(&self, tasks: usize, bytes: usize) {
        if tasks == 0 {
            return;
        }
        let mut now = self.now.lock();
        now.bytes = (now.bytes + now.bytes / 8 + 1).min(self.most);
        now.step = (now.bytes.saturating_mul(tasks) / bytes.max(1)).max(1);
    }

    /// Notes that a response did not arrive.
    pub(super) fn lost(&self) {
        let mut now = self.now.lock();
        now.bytes = (now.bytes / 2).max(LEAST.min(self.most));
        now.step = (now.step / 2).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_halves_after_a_lost_response_and_grows_again() {
        let room = Room::new(1 << 20);
        room.lost();
        assert_eq!(room.bytes(), 1 << 19);
        (0..20).for_each(|_| room.lost());
        assert_eq!((room.bytes(), room.step()), (LEAST, 1));
        let mut answers = 0;
        while room.bytes() < 1 << 20 {
            room.arrived(10, 1_000);
            answers += 1;
            assert!(answers < 100, "{room:?}");
        }
        assert!(room.step() >= 500, "{room:?}");
    }

    #[test]
    fn it_never_exceeds_the_limit() {
        let room = Room::new(100);
        room.lost();
        assert_eq!(room.bytes(), 100);
        room.arrived(1, 900);
        assert_eq!((room.bytes(), room.step()), (100, 1));
    }
}
