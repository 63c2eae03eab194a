//! The web monitor, over HTTP.

mod access;
mod actions;
mod api;
mod figures;
mod live;
mod outboxes;
mod pages;
#[cfg(all(feature = "prometheus", feature = "metrics"))]
mod prometheus;
mod site;
mod storage;
