//! Brokers for tests of one server, and what conformance has for one queue.

#![allow(dead_code, unused_imports, reason = "each test binary uses a part")]

pub(crate) mod log;

pub(crate) use asynqueue_conformance::{calls::*, child};
use asynqueue_postgres::{PostgresBroker, PostgresOptions};

pub(crate) fn options(url: &str) -> PostgresOptions {
    PostgresOptions::new(url).expect("a valid URL")
}

pub(crate) async fn open(url: &str) -> PostgresBroker {
    let broker = PostgresBroker::connect(options(url)).await;
    broker.expect("a broker")
}
