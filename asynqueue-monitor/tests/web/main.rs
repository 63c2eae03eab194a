//! The web monitor, over HTTP.

mod access;
mod actions;
mod api;
mod direction;
mod events;
mod figures;
mod jobs;
mod lists;
mod live;
mod names;
mod outboxes;
mod pages;
#[cfg(all(feature = "prometheus", feature = "metrics"))]
mod prometheus;
mod search;
mod site;
mod storage;
mod why;
