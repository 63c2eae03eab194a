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

/// The most pairs of a queue and an event that are counted between two times that the figures are taken. Further events
/// of a queue are counted together.
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
    tally: Arc<Tally>,
    at: Instant,
}

impl Started {
    /// Counts the time that the handler ran.
    pub(crate) fn end(self) {
        measure(&self.tally.running, self.at.elapsed());
    }
}

fn measure(buckets: &[AtomicU64; BUCKETS], time: Duration) {
    buckets[usize::from(Histogram::bucket_of(time))].fetch_add(1, Relaxed);
}

impl Collector {
    fn of(&self, queue: &Name, event: &Name) -> Arc<Tally> {
        let known = |tallies: &Tallies| tallies.get(queue)?.get(event).cloned();
        if let Some(tally) = known(&self.0.read()) {
            return tally;
        }
        let mut tallies = self.0.write();
        let is_full = tallies.values().map(HashMap::len).sum::<usize>() >= MAX_TALLIES;
        let of_queue = tallies.entry(queue.clone()).or_default();
        let event = match is_full && !of_queue.contains_key(event) {
            true => Point::REST,
            false => event.clone(),
        };
        Arc::clone(of_queue.entry(event).or_default())
    }

    /// Counts an attempt that starts.
    pub(crate) fn start(&self, context: &Context) -> Started {
        let tally = self.of(context.queue(), context.event());
        tally.count(slot::STARTED);
        if let Some(waited) = context.waited() {
            measure(&tally.waiting, waited);
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
            let tally = self.of(&task.queue, &task.event);
            tally.settled(settlement, settled);
        }
    }

    /// Takes the figures, as points of the minute, the hour and the day at this time, and the sums of each queue.
    pub(crate) fn take(&self, at: Timestamp) -> Vec<Point> {
        let mut points = Vec::new();
        let mut tallies = self.0.write();
        for (queue, of_queue) in tallies.iter_mut() {
            let mut sum = Counts::default();
            of_queue.retain(|event, tally| {
                let counts = tally.take();
                let was_used = counts.iter().next().is_some();
                if was_used {
                    let point = |series| point(series, at, queue, event, &counts);
                    points.extend(SERIES.map(point));
                    sum.merge(&outcomes(&counts));
                }
                // An attempt that runs has a share.
                was_used || Arc::strong_count(tally) > 1
            });
            if sum.iter().next().is_some() {
                points.push(point(Series::QueueMinutes, at, queue, &Point::REST, &sum));
            }
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

/// Without the times.
fn outcomes(counts: &Counts) -> Counts {
    let is_outcome = |(slot, _): &(u8, u64)| usize::from(*slot) < slot::OUTCOMES;
    counts.iter().filter(is_outcome).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_beyond_the_limit_are_counted_together_in_their_queue() {
        let collector = Collector::default();
        for n in 0..MAX_TALLIES + 3 {
            let queue = if n < MAX_TALLIES { "a" } else { "b" };
            let tally = collector.of(&queue.into(), &format!("event-{n}").into());
            tally.count(slot::STARTED);
        }
        collector
            .of(&"a".into(), &"event-0".into())
            .count(slot::STARTED);
        let points = collector.take(Timestamp::from_millis(60_000));
        let started = |series, queue: &str, event: &str| {
            let is_meant = |point: &&Point| {
                (point.series, &*point.group, &*point.key) == (series, queue, event)
            };
            points
                .iter()
                .find(is_meant)
                .map(|point| point.counts.get(slot::STARTED))
        };
        assert_eq!(started(Series::EventHours, "a", "event-0"), Some(2));
        assert_eq!(started(Series::EventHours, "b", ""), Some(3));
        assert_eq!(
            started(Series::QueueMinutes, "a", ""),
            Some(MAX_TALLIES as u64 + 1)
        );
        assert_eq!(started(Series::QueueMinutes, "b", ""), Some(3));
        assert_eq!(points.len(), 3 * (MAX_TALLIES + 1) + 2);
        assert_eq!(collector.take(Timestamp::default()), []);
    }
}
