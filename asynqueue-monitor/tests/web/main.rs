//! The web monitor, over HTTP.

mod access;
mod actions;
mod api;
mod direction;
mod events;
mod failures;
mod figures;
mod jobs;
mod live;
mod names;
#[cfg(feature = "webhooks")]
mod notifications;
mod outboxes;
mod pages;
#[cfg(all(feature = "prometheus", feature = "metrics"))]
mod prometheus;
mod site;
mod storage;
mod why;
