//! What a server has counted since its last report.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    Ended, Failed, Fingerprint, normalized,
    points::{ENDED, Note},
};
use crate::{
    broker::{Outcome, Point, Series, Settled, Settlement},
    sync::Mutex,
    task::{Envelope, Failure, FailureKind, Name, Timestamp, cut},
};

/// The spans that failures are counted in.
const SERIES: [Series; 3] = [
    Series::FailureMinutes,
    Series::FailureHours,
    Series::FailureDays,
];

/// The maximum number of causes of a queue in one report. Others count for their queue only.
const MAX_CAUSES: usize = 100;

/// The maximum length of an example in bytes.
const MAX_EXAMPLE: usize = 500;

/// The outcomes that were recorded and not yet reported, by queue.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<BTreeMap<Name, OfQueue>>);

#[derive(Debug, Default)]
struct OfQueue {
    ended: Ended,
    causes: BTreeMap<Fingerprint, OfCause>,
}

#[derive(Debug)]
struct OfCause {
    failed: Failed,
    note: Note,
}

impl Tally {
    /// Counts outcomes that the broker has recorded.
    pub(crate) fn add(&self, part: &[Settlement], settled: &[Settled]) {
        // Normalizing takes microseconds, which other threads need not wait for.
        let ended: Vec<_> = part
            .iter()
            .zip(settled)
            .filter_map(|(settlement, settled)| {
                let end = End::of(settlement, *settled)?;
                let task = &settlement.envelope;
                Some((&task.queue, end, end.cause(task)))
            })
            .collect();
        let mut queues = self.0.lock();
        for (queue, end, cause) in ended {
            match queues.get_mut(queue) {
                Some(of_queue) => of_queue.add(end, cause),
                None => queues.entry(queue.clone()).or_default().add(end, cause),
            }
        }
    }

    /// Takes everything that was counted, as points of the minute, the hour and the day at this time. The point of a
    /// queue comes before those of its causes.
    pub(crate) fn take(&self, at: Timestamp) -> Vec<Point> {
        let queues = std::mem::take(&mut *self.0.lock());
        let mut points = Vec::new();
        for (queue, of_queue) in queues {
            for series in SERIES {
                let point = |key, counts, note| Point {
                    series,
                    at: series.start_of(at),
                    group: queue.clone(),
                    key,
                    counts,
                    note,
                };
                points.push(point(ENDED, of_queue.ended.counts(), Bytes::new()));
                points.extend(of_queue.causes.iter().map(|(fingerprint, cause)| {
                    let key = Name::from(fingerprint.to_string());
                    point(key, cause.failed.counts(), cause.note.to_bytes())
                }));
            }
        }
        points
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Succeeded,
    Failed {
        archived: bool,
    },
    /// The lease expired: nothing is known about the attempt.
    Lost {
        archived: bool,
    },
}

impl End {
    /// `None` if the outcome counts as neither success nor failure.
    fn of(settlement: &Settlement, settled: Settled) -> Option<Self> {
        let archived = match (&settlement.outcome, settled) {
            (_, Settled::Completed) | (Outcome::Complete { .. }, Settled::Recorded) => {
                return Some(Self::Succeeded);
            }
            (Outcome::Archive, Settled::Recorded) => true,
            (Outcome::Retry { .. }, Settled::Recorded) => false,
            _ => return None,
        };
        let task = &settlement.envelope;
        if task.last_failure()?.kind == FailureKind::LeaseExpired {
            return Some(Self::Lost { archived });
        }
        // A retry that is not counted as an attempt, such as a request to come back later.
        let counts = archived || task.attempts > settlement.leased.attempts;
        counts.then_some(Self::Failed { archived })
    }

    fn cause(self, task: &Envelope) -> Option<(Fingerprint, Note)> {
        let failure = task.last_failure().filter(|_| self != Self::Succeeded)?;
        let message = normalized(&failure.message);
        let fingerprint = Fingerprint::of_normalized(&task.event, failure.kind, &message);
        Some((fingerprint, note(task, failure, message)))
    }
}

fn note(task: &Envelope, failure: &Failure, message: String) -> Note {
    let mut example = failure.message.clone();
    cut(&mut example, MAX_EXAMPLE);
    Note {
        event: task.event.clone(),
        kind: failure.kind,
        message,
        example,
        id: task.id.as_str().to_owned(),
        first: failure.at,
    }
}

impl OfQueue {
    fn add(&mut self, end: End, cause: Option<(Fingerprint, Note)>) {
        let archived = match end {
            End::Succeeded => {
                self.ended.succeeded += 1;
                return;
            }
            End::Failed { archived } => {
                self.ended.failed += 1;
                archived
            }
            End::Lost { archived } => {
                self.ended.lost += 1;
                archived
            }
        };
        self.ended.archived += u64::from(archived);
        let Some((fingerprint, note)) = cause else {
            return;
        };
        if self.causes.len() >= MAX_CAUSES && !self.causes.contains_key(&fingerprint) {
            return;
        }
        let cause = self.causes.entry(fingerprint).or_insert_with(|| OfCause {
            failed: Failed::default(),
            note,
        });
        cause.failed.failed += 1;
        cause.failed.archived += u64::from(archived);
    }
}
