//! Real production faults: every accepted task runs, and none runs twice at a time.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "../common/mod.rs"]
mod common;

mod blocked;
mod clock;
mod cluster;
mod connections;
mod declared;
mod evicted;
mod groups;
mod halfway;
mod isolation;
mod late;
mod lifecycle;
mod load;
mod outage;
mod outcomes;
mod slow_link;
mod unreadable;
mod workers;
