//! The only source of entropy in this program. Every thread gets the same bytes from its start, and each
//! seed runs on its own thread, so hash maps with random keys have the same order in each run of a seed.
#![allow(unsafe_code)]

use std::cell::Cell;

thread_local! {
    static STATE: Cell<u64> = const { Cell::new(0) };
}

/// The next number of SplitMix64: <https://prng.di.unimi.it/splitmix64.c>.
fn next() -> u64 {
    let state = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The standard library calls this for the keys of hash maps.
///
/// # Safety
///
/// `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    for place in 0..length {
        // SAFETY: `place` is within the caller's buffer.
        unsafe { buffer.add(place).write(next() as u8) };
    }
    length as isize
}

/// The `getrandom` crate calls this through its custom backend.
///
/// # Safety
///
/// `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "Rust" fn __getrandom_v03_custom(
    buffer: *mut u8,
    length: usize,
) -> Result<(), getrandom::Error> {
    // SAFETY: the caller upholds the same contract.
    unsafe { getrandom(buffer, length, 0) };
    Ok(())
}
