//! Random numbers from the operating system. Ids and tokens are made of them, so they are unguessable and differ across a fleet.

use std::cell::RefCell;

/// How many numbers one system call returns: enough that its cost is spread over dozens of ids.
const BATCH: usize = 256;

const NUMBER: usize = size_of::<u64>();

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; BATCH * NUMBER], left: 0 }) };
}

struct Pool {
    bytes: [u8; BATCH * NUMBER],
    left: usize,
}

/// The next number. Each is returned once.
///
/// # Panics
///
/// When the operating system has no random numbers: without them no id would be unique.
pub(super) fn next() -> u64 {
    POOL.with_borrow_mut(|pool| {
        if pool.left == 0 {
            getrandom::fill(&mut pool.bytes).expect("random numbers of the operating system");
            pool.left = BATCH;
        }
        pool.left -= 1;
        let mut number = [0; NUMBER];
        // Moved out, so that a dump of the pool shows no part of a token.
        pool.bytes[pool.left * NUMBER..][..NUMBER].swap_with_slice(&mut number);
        u64::from_ne_bytes(number)
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, thread};

    use super::{BATCH, next};

    #[test]
    fn no_number_is_returned_twice_within_a_batch_or_on_two_threads() {
        let draw = || (0..3 * BATCH + 1).map(|_| next()).collect::<Vec<_>>();
        let other = thread::spawn(draw);
        let mut numbers = draw();
        numbers.extend(other.join().expect("no panic"));
        let different: HashSet<_> = numbers.iter().collect();
        assert_eq!(different.len(), 2 * (3 * BATCH + 1));
    }
}
