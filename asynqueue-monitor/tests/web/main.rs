//! The web monitor, over HTTP.

mod access;
mod actions;
mod api;
mod audit;
mod brokers;
mod direction;
mod events;
mod face;
mod failures;
mod figures;
mod jobs;
mod lists;
mod live;
mod lost;
mod names;
#[cfg(feature = "webhooks")]
mod notifications;
mod outboxes;
mod pages;
mod probes;
#[cfg(all(feature = "prometheus", feature = "metrics"))]
mod prometheus;
mod refusals;
mod search;
mod sessions;
mod site;
mod storage;
mod why;
