//! The web monitor, over HTTP.

mod access;
mod actions;
mod api;
mod audit;
mod direction;
mod figures;
mod jobs;
mod live;
mod names;
mod outboxes;
mod pages;
#[cfg(all(feature = "prometheus", feature = "metrics"))]
mod prometheus;
mod site;
mod storage;
mod why;
