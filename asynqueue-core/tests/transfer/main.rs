//! Moving everything from one store to another, with a process that dies at each of its calls.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests"
)]

mod deaths;
mod mortal;
mod moves;
mod stage;
