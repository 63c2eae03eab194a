//! Adding what this server has counted to the broker's statistics.

use std::{sync::Arc, time::Duration};

use super::{Shared, outcome::guarded};
use crate::{
    broker::{Point, Settled, Settlement},
    failure::Tally,
    process::Context,
    statistics::{Collector, Started},
    sync::Mutex,
};

/// How often figures are added. Nothing is sent if there are none.
const INTERVAL: Duration = Duration::from_secs(10);

/// When figures are first added: the first failures after a deploy are seen soon.
const FIRST: Duration = Duration::from_secs(1);

/// The most points that are kept for the next time if the broker cannot be reached.
const MAX_UNSENT: usize = 3_000;

/// What this server counts.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    events: Collector,
    failures: Tally,
    /// Points that could not be added.
    unsent: Mutex<Vec<Point>>,
}

impl Statistics {
    /// Counts an attempt that starts.
    pub(super) fn start(&self, context: &Context) -> Started {
        self.events.start(context)
    }

    /// Counts the outcomes that the broker has recorded.
    pub(super) fn settled(&self, settlements: &[Settlement], settled: &[Settled]) {
        let outcomes = settlements.iter().zip(settled.iter().copied());
        self.events.settled(outcomes);
        guarded("failure counts", || self.failures.add(settlements, settled));
    }
}

impl Shared {
    /// Adds figures regularly until the server stops.
    pub(super) async fn report_statistics(self: Arc<Self>) {
        if !self.broker.capabilities().points {
            return;
        }
        let mut wait = FIRST;
        while self.runs_until(tokio::time::sleep(wait)).await {
            self.add_figures().await;
            wait = INTERVAL;
        }
    }

    /// Adds the figures of the last seconds.
    pub(super) async fn report_last_statistics(&self) {
        if self.broker.capabilities().points {
            self.add_figures().await;
        }
    }

    async fn add_figures(&self) {
        let mut points = std::mem::take(&mut *self.statistics.unsent.lock());
        let now = self.broker.now();
        points.extend(self.statistics.events.take(now));
        points.extend(self.statistics.failures.take(now));
        while !points.is_empty() {
            let rest = points.split_off(points.len().min(Point::MAX_CALL));
            if let Err(error) = self.broker.add_points(points.clone()).await {
                // Nothing depends on them. Some may have been added, and count twice.
                tracing::debug!(%error, "could not add statistics; they are added later");
                points.extend(rest);
                points.truncate(MAX_UNSENT);
                *self.statistics.unsent.lock() = points;
                return;
            }
            points = rest;
        }
    }
}
