//! Exported metrics. All tests share one recorder, so each uses its own events and queues.

mod endpoint;
mod outboxes;
mod processes;
mod queues;
mod scrape;
