//! What a broker is told about its Redis.

use std::{sync::Arc, time::Duration};

use asynqueue_core::Clock;

/// Where Redis is, and how to talk to it.
#[derive(Clone)]
pub struct RedisOptions {
    pub(crate) url: String,
    /// What the names of all keys begin with. Default `aq`.
    pub(crate) prefix: String,
    /// How long a reply may take. Default 2 s.
    pub(crate) response_timeout: Duration,
    /// How long a call is tried again while Redis cannot be reached. Default 5 s.
    pub(crate) retry_for: Duration,
    /// Tells the time instead of Redis.
    pub(crate) clock: Option<Arc<dyn Clock>>,
}

impl RedisOptions {
    /// Options for the Redis at `url`.
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            prefix: "aq".into(),
            response_timeout: Duration::from_secs(2),
            retry_for: Duration::from_secs(5),
            clock: None,
        }
    }

    /// What the names of all keys begin with. Default `aq`.
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = prefix.to_owned();
        self
    }

    /// Takes the time from `clock` rather than from Redis: for tests.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }
}
