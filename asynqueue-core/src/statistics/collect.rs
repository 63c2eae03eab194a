//! Counting attempts in a server, until their figures are added to the broker.

use std::{
    collections::{BTreeSet, HashMap},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Histogram, slot};
use crate::{
    broker::{Counts, Outcome, Point, Series, Settled, Settlement},
    process::Context,
    task::{FailureKind, Name, Timestamp},
};

const BUCKETS: usize = Histogram::BUCKETS as usize;

/// The attempts of each event that the server has a handler for. Counting takes no lock: a few atomic additions for each
/// attempt.
#[derive(Debug)]
pub(crate) struct Collector(HashMap<Name, Tally>);

/// Numbers since they were taken last.
#[derive(Debug)]
struct Tally {
    outcomes: [AtomicU64; slot::OUTCOMES],
    running: [AtomicU64; BUCKETS],
    waiting: [AtomicU64; BUCKETS],
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            outcomes: Default::default(),
            running: [const { AtomicU64::new(0) }; BUCKETS],
            waiting: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }
}

/// A running attempt.
pub(crate) struct Started<'a> {
    tally: Option<&'a Tally>,
    at: Instant,
}

impl Started<'_> {
    /// Counts the time that the handler ran.
    pub(crate) fn end(self) {
        if let Some(tally) = self.tally {
            measure(&tally.running, self.at.elapsed());
        }
    }
}

fn measure(buckets: &[AtomicU64; BUCKETS], time: Duration) {
    buckets[usize::from(Histogram::bucket_of(time))].fetch_add(1, Relaxed);
}

impl Collector {
    pub(crate) fn new(events: &BTreeSet<Name>) -> Self {
        let tallies = events.iter().map(|event| (event.clone(), Tally::default()));
        Self(tallies.collect())
    }

    /// Counts an attempt that starts.
    pub(crate) fn start(&self, context: &Context) -> Started<'_> {
        let tally = self.0.get(context.event());
        if let Some(tally) = tally {
            tally.count(slot::STARTED);
            if let Some(waited) = context.waited() {
                measure(&tally.waiting, waited);
            }
        }
        Started {
            tally,
            at: Instant::now(),
        }
    }

    /// Counts the outcomes that the broker has recorded.
    pub(crate) fn settled<'s>(&self, outcomes: impl Iterator<Item = (&'s Settlement, Settled)>) {
        for (settlement, settled) in outcomes {
            if let Some(tally) = self.0.get(&settlement.envelope.event) {
                tally.settled(settlement, settled);
            }
        }
    }

    /// Takes the figures, as points of the minute, the hour and the day at this time.
    pub(crate) fn take(&self, at: Timestamp) -> Vec<Point> {
        let mut points = Vec::new();
        for (event, tally) in &self.0 {
            let counts = tally.take();
            if counts.iter().next().is_none() {
                continue;
            }
            for series in [Series::EventMinutes, Series::EventHours, Series::EventDays] {
                points.push(Point {
                    series,
                    at: series.start_of(at),
                    group: Name::from_static(""),
                    key: event.clone(),
                    counts: counts.clone(),
                    note: Bytes::new(),
                });
            }
        }
        points
    }
}

impl Tally {
    fn count(&self, slot: u8) {
        self.outcomes[usize::from(slot)].fetch_add(1, Relaxed);
    }

    fn settled(&self, settlement: &Settlement, settled: Settled) {
        match (&settlement.outcome, settled) {
            (_, Settled::Stale) => {}
            (_, Settled::Completed) | (Outcome::Complete { .. }, _) => self.count(slot::SUCCEEDED),
            (_, Settled::Cancelled) => self.count(slot::ARCHIVED),
            (Outcome::Retry { .. }, _) => self.count(failed(settlement)),
            (Outcome::Archive, _) => {
                self.count(failed(settlement));
                self.count(slot::ARCHIVED);
            }
            (Outcome::Snooze { .. } | Outcome::Release | Outcome::Drop, _) => {}
        }
    }

    fn take(&self) -> Counts {
        let numbers = |first: u8, of: &[AtomicU64]| {
            let taken = of.iter().map(|number| number.swap(0, Relaxed));
            (first..).zip(taken).collect::<Vec<_>>()
        };
        let outcomes = numbers(slot::STARTED, &self.outcomes);
        let running = numbers(slot::RUNNING, &self.running);
        let waiting = numbers(slot::WAITING, &self.waiting);
        let all = outcomes.into_iter().chain(running).chain(waiting);
        all.collect()
    }
}

/// A lost worker is not a failure of the task.
fn failed(settlement: &Settlement) -> u8 {
    let failure = settlement.envelope.last_failure();
    match failure.map(|failure| failure.kind) {
        Some(FailureKind::LeaseExpired) => slot::LOST,
        _ => slot::FAILED,
    }
}
