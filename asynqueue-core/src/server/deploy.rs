//! Recording the version of the program, so that charts can mark deployments.

use std::{sync::Arc, time::Duration};

use super::Shared;
use crate::inspector::starts_with;

/// How long until a record is tried again if the broker cannot be reached.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

impl Shared {
    /// Records the version once.
    pub(super) async fn report_version(self: Arc<Self>) {
        let Some(version) = &self.version else {
            return;
        };
        if !self.broker.capabilities().points {
            return;
        }
        loop {
            let recorded = starts_with(&self.broker, &self.worker, version);
            match recorded.await {
                Ok(()) => return,
                // Nothing depends on it.
                Err(error) => tracing::debug!(%error, "could not record the version; retrying"),
            }
            if !self.runs_until(tokio::time::sleep(AGAIN_AFTER)).await {
                return;
            }
        }
    }
}
