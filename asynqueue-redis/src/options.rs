//! What a broker is told about its Redis.

use std::time::Duration;

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
}

impl RedisOptions {
    /// Options for the Redis at `url`.
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            prefix: "aq".into(),
            response_timeout: Duration::from_secs(2),
            retry_for: Duration::from_secs(5),
        }
    }
}
