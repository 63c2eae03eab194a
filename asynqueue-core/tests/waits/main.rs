//! Why queues and tasks wait, on the in-memory broker.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod causes;
mod servers;
mod stage;
mod turns;
