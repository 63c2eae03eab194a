//! Counting attempts in a server, until their figures are added to the broker.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Histogram, SERIES, slot};
use crate::{
    broker::{Counts, Outcome, Point, Series, Settled, Settlement},
    process::Context,
    sync::RwLock,
    task::{FailureKind, Name, Timestamp},
};

const BUCKETS: usize = Histogram::BUCKETS as usize;

/// The most pairs of a queue and an event that are counted between two times that the figures are taken.
const MAX_TALLIES: usize = 2_000;

/// The attempts of each event in each queue. Counting takes a shared lock and a few atomic additions for each attempt.
#[derive(Debug, Default)]
pub(crate) struct Collector(RwLock<Tallies>);

/// By queue and event.
type Tallies = HashMap<Name, HashMap<Name, Arc<Tally>>>;

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
pub(crate) struct Started {
    tally: Option<Arc<Tally>>,
    at: Instant,
}

impl Started {
    /// Counts the time that the handler ran.
    pub(crate) fn end(self) {
        if let Some(tally) = &self.tally {
            measure(&tally.running, self.at.elapsed());
        }
    }
}

fn measure(buckets: &[AtomicU64; BUCKETS], time: Duration) {
    buckets[usize::from(Histogram::bucket_of(time))].fetch_add(1, Relaxed);
}

impl Collector {
    /// `None` if there are too many.
    fn of(&self, queue: &Name, event: &Name) -> Option<Arc<Tally>> {
        let known = |tallies: &Tallies| tallies.get(queue)?.get(event).cloned();
        if let Some(tally) = known(&self.0.read()) {
            return Some(tally);
        }
        let mut tallies = self.0.write();
        if tallies.values().map(HashMap::len).sum::<usize>() >= MAX_TALLIES {
            return known(&tallies);
        }
        let of_queue = tallies.entry(queue.clone()).or_default();
        Some(Arc::clone(of_queue.entry(event.clone()).or_default()))
    }

    /// Counts an attempt that starts.
    pub(crate) fn start(&self, context: &Context) -> Started {
        let tally = self.of(context.queue(), context.event());
        if let Some(tally) = &tally {
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
            let task = &settlement.envelope;
            if let Some(tally) = self.of(&task.queue, &task.event) {
                tally.settled(settlement, settled);
            }
        }
    }

    /// Takes the figures, as points of the minute, the hour and the day at this time.
    pub(crate) fn take(&self, at: Timestamp) -> Vec<Point> {
        let mut points = Vec::new();
        let mut tallies = self.0.write();
        for (queue, of_queue) in tallies.iter_mut() {
            of_queue.retain(|event, tally| {
                let counts = tally.take();
                let was_used = counts.iter().next().is_some();
                if was_used {
                    let point = |series| point(series, at, queue, event, &counts);
                    points.extend(SERIES.map(point));
                }
                // An attempt that runs has a share.
                was_used || Arc::strong_count(tally) > 1
            });
        }
        tallies.retain(|_, of_queue| !of_queue.is_empty());
        points
    }
}

fn point(series: Series, at: Timestamp, queue: &Name, event: &Name, counts: &Counts) -> Point {
    Point {
        series,
        at: series.start_of(at),
        group: queue.clone(),
        key: event.clone(),
        counts: counts.clone(),
        note: Bytes::new(),
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
