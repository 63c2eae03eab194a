//! The task of the benchmark: a payload of a given size, with its number.

use std::sync::{Arc, OnceLock};

use asynqueue::{
    MessagePack, Task,
    task::{Name, TaskOptions},
};
use serde::{Deserialize, Serialize};

/// A task that does nothing.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Noop {
    seq: u64,
    pad: String,
}

/// Set in each number, so that all have the same encoded size.
const WIDE: u64 = 1 << 63;

/// The size of a payload without padding.
const BARE: usize = 19;

/// The queue of this run, with a random name.
static OPTIONS: OnceLock<Arc<TaskOptions>> = OnceLock::new();

impl Noop {
    pub(super) fn new(seq: usize, bytes: usize) -> Self {
        let bare = bytes.saturating_sub(BARE);
        // The length of a string takes one more byte from 32, 256 and 65,536 bytes.
        let header = match bare {
            0..32 => 0,
            32..257 => 1,
            257..65_538 => 2,
            _ => 4,
        };
        Self {
            seq: seq as u64 | WIDE,
            pad: "x".repeat(bare - header),
        }
    }

    pub(super) fn seq(&self) -> usize {
        (self.seq & !WIDE) as usize
    }
}

impl Task for Noop {
    const EVENT: &'static str = "bench:noop";
    type Output = ();
    type Codec = MessagePack;

    fn options() -> Arc<TaskOptions> {
        Arc::clone(OPTIONS.get_or_init(|| {
            let queue = Name::from(format!("bench-{:016x}", rand::random::<u64>()));
            let mut options = TaskOptions::default();
            options.queue = queue;
            options.max_retry = 0;
            Arc::new(options)
        }))
    }
}

/// Parses the size of a payload.
pub(super) fn bytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes) if (BARE..=1 << 20).contains(&bytes) => Ok(bytes),
        Ok(_) => Err(format!("expected {BARE} to 1048576 bytes")),
        Err(_) => Err("expected a whole number".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_the_requested_size() {
        for bytes in [
            19,
            20,
            50,
            52,
            100,
            274,
            276,
            1_000,
            65_000,
            70_000,
            1 << 20,
        ] {
            for seq in [0, 1_000_000] {
                let task = Noop::new(seq, bytes);
                let encoded = rmp_serde::to_vec_named(&task).expect("encoded");
                // One byte less if the next longer header leaves a gap.
                assert!(
                    (bytes.saturating_sub(1)..=bytes).contains(&encoded.len()),
                    "{bytes}: {}",
                    encoded.len()
                );
                assert_eq!(task.seq(), seq);
            }
        }
        assert_eq!(
            rmp_serde::to_vec_named(&Noop::new(7, 100))
                .expect("encoded")
                .len(),
            100
        );
    }
}
