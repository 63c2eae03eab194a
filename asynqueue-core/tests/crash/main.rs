//! Handlers that crash at each of their awaits.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod attempts;
mod compared;
mod points;
mod time;

use std::sync::{Arc, Mutex};

use asynqueue_core::testing::{Crash, CrashError, CrashFinding, CrashKind};
use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "charge", max_retry = 3, timeout = "1m", crate = asynqueue_core)]
struct Charge {
    cents: u64,
}

const CHARGE: Charge = Charge { cents: 5 };

/// Represents everything outside of the program.
#[derive(Clone, Default)]
struct World(Arc<Mutex<Vec<String>>>);

impl World {
    fn add(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn add_once(&self, line: &str) {
        if !self.lines().iter().any(|known| known == line) {
            self.add(line);
        }
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// The finding of a test.
fn found<S: std::fmt::Debug>(result: Result<S, CrashError>) -> CrashFinding {
    match result {
        Err(CrashError::Found(found)) => *found,
        other => panic!("expected a finding, got {other:?}"),
    }
}

/// The kind, the attempt, the await, and the number of awaits.
fn place_of(crash: Crash) -> (CrashKind, u32, usize, usize) {
    (crash.kind, crash.attempt, crash.at, crash.of)
}
