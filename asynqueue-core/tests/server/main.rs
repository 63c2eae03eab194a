//! The server's behaviour on the in-memory broker, one file per topic.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod actions;
mod archive;
mod archived;
mod arguments;
mod blocked;
mod blocking;
mod cancel;
mod causes;
mod clock;
mod codecs;
mod extremes;
mod faulty;
mod faulty_store;
mod fired_concurrently;
mod groups;
mod handlers;
mod harness;
mod hooks;
mod layers;
mod lifecycle;
mod limits;
mod lost_worker;
mod outcomes;
mod panics;
mod producer;
mod queues;
mod refused;
mod registered;
mod results;
mod retries;
mod schedule;
mod scheduler;
mod setup;
mod sharing;
mod shutdown;
mod shutdown_signal;
mod sick_queue;
mod statistics;
mod subscribers;
mod timeouts;
mod unavailable;
mod unique;
mod unknown_events;
