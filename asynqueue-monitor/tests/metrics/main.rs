//! Metrics as Prometheus reads them. All tests share one recorder: each has events and queues of its own.

mod endpoint;
mod processes;
mod queues;
mod scrape;
