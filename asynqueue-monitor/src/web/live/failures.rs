//! The failures of the last minutes, for problem detection.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use asynqueue_core::{
    broker::{BrokerError, Series},
    failure::Failures,
    inspector::Inspector,
};

use super::memo::Memo;
use crate::web::attention::SPAN;

/// How long they are cached. Servers report failures as often.
const INTERVAL: Duration = Duration::from_secs(10);

/// Reads the failures of the last [`SPAN`], for all viewers together.
#[derive(Default)]
pub(super) struct RecentFailures(Memo<(), Failures>);

impl RecentFailures {
    /// The failures, at most [`INTERVAL`] old.
    pub(super) async fn read(&self, inspector: &Inspector) -> Result<Arc<Failures>, BrokerError> {
        let now = Instant::now();
        let not_before = now.checked_sub(INTERVAL).unwrap_or(now);
        let since = inspector.now() - SPAN;
        self.0
            .get(
                (),
                not_before,
                inspector.failures_since(Series::FailureMinutes, since),
            )
            .await
    }
}
