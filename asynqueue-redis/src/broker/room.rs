//! How much of a queue is leased at a time: what fits through the link in time.

use parking_lot::Mutex;

/// The least, in bytes. One task comes whatever its size.
const LEAST: usize = 64 << 10;

/// How many tasks are read at first, as long as nothing is known of their sizes.
const FIRST_STEP: usize = 64;

/// The bytes of tasks that one answer may have: half after one that did not arrive, and more again with each that did.
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

    /// How many bytes at most.
    pub(super) fn bytes(&self) -> usize {
        self.now.lock().bytes
    }

    /// How many tasks Redis is to read at first, for it not to read many more than fit.
    pub(super) fn step(&self) -> usize {
        self.now.lock().step
    }

    /// Notes an answer that arrived, by its number of tasks and bytes.
    pub(super) fn arrived(&self, tasks: usize, bytes: usize) {
        if tasks == 0 {
            return;
        }
        let mut now = self.now.lock();
        now.bytes = (now.bytes + now.bytes / 8 + 1).min(self.most);
        now.step = (now.bytes.saturating_mul(tasks) / bytes.max(1)).max(1);
    }

    /// Notes that an answer did not arrive.
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
    fn it_halves_after_an_answer_that_was_lost_and_grows_again() {
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
    fn it_is_never_more_than_was_set() {
        let room = Room::new(100);
        room.lost();
        assert_eq!(room.bytes(), 100);
        room.arrived(1, 900);
        assert_eq!((room.bytes(), room.step()), (100, 1));
    }
}
