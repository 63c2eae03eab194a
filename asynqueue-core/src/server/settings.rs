//! A server's settings.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    broker::{BrokerError, Keep},
    process::{Context, TaskError},
};

/// The settings of a server, with their defaults.
pub(crate) struct Settings {
    pub(super) concurrency: usize,
    pub(super) lease: Duration,
    pub(super) poll_interval: Duration,
    pub(super) shutdown_timeout: Duration,
    pub(super) cancel_grace: Duration,
    pub(super) max_abandoned: usize,
    pub(super) unknown_event_grace: Duration,
    pub(crate) keep: Keep,
    pub(super) log_failures: bool,
    pub(super) on_error: Option<ErrorHandler>,
    pub(super) health_check: Option<(Duration, HealthCheck)>,
}

pub(super) type ErrorHandler = Arc<dyn Fn(&Context, &TaskError) + Send + Sync>;
pub(super) type HealthCheck = Arc<dyn Fn(Result<(), BrokerError>) + Send + Sync>;

impl Default for Settings {
    fn default() -> Self {
        let concurrency = 16;
        Self {
            concurrency,
            lease: Duration::from_secs(30),
            poll_interval: Duration::from_secs(1),
            shutdown_timeout: Duration::from_secs(20),
            cancel_grace: Duration::from_secs(1),
            max_abandoned: concurrency,
            unknown_event_grace: Duration::from_secs(3600),
            keep: Keep::default(),
            log_failures: true,
            on_error: None,
            health_check: None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("concurrency", &self.concurrency)
            .field("lease", &self.lease)
            .field("poll_interval", &self.poll_interval)
            .field("shutdown_timeout", &self.shutdown_timeout)
            .field("cancel_grace", &self.cancel_grace)
            .field("max_abandoned", &self.max_abandoned)
            .field("unknown_event_grace", &self.unknown_event_grace)
            .field("keep", &self.keep)
            .field("log_failures", &self.log_failures)
            .finish_non_exhaustive()
    }
}
