//! The server from outside, on the in-memory broker: a file a concern.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod cancel;
mod codecs;
mod extremes;
mod faulty;
mod faulty_rest;
mod harness;
mod hooks;
mod layers;
mod lifecycle;
mod limits;
mod lost_worker;
mod panics;
mod producer;
mod queues;
mod refused;
mod registered;
mod results;
mod retries;
mod schedule;
mod setup;
mod shutdown;
mod shutdown_signal;
mod timeouts;
mod unavailable;
mod unknown_events;
