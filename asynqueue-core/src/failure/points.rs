//! Failures as points of a store, and back.
//!
//! The group of a point is its queue. The key is the fingerprint of a cause, or [`ENDED`] for all attempts of the queue.
//! A server adds the point of the queue before those of its causes, so that the limit of keys never leaves it out.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Cause, Ended, Failed, Failures, Fingerprint};
use crate::{
    broker::{Counts, Point},
    task::{FailureKind, Name, TaskId, TaskRef, Timestamp},
};

/// The key of all attempts of a queue. No fingerprint has this text.
pub(super) const ENDED: Name = Name::from_static("ended");

const SUCCEEDED: u8 = 0;
const FAILED: u8 = 1;
const ARCHIVED: u8 = 2;
const LOST: u8 = 3;

/// What is kept of the first failure of a cause in a span of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) event: Name,
    pub(super) kind: FailureKind,
    /// The normalized message.
    pub(super) message: String,
    /// The message as it was.
    pub(super) example: String,
    pub(super) id: String,
    /// When it failed.
    pub(super) first: Timestamp,
}

impl Note {
    pub(super) fn to_bytes(&self) -> Bytes {
        // It consists of text and numbers, so this does not fail.
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

impl Ended {
    pub(super) fn counts(self) -> Counts {
        let Self {
            succeeded,
            failed,
            archived,
            lost,
        } = self;
        let numbers = [
            (SUCCEEDED, succeeded),
            (FAILED, failed),
            (ARCHIVED, archived),
            (LOST, lost),
        ];
        numbers.into_iter().collect()
    }

    fn add(&mut self, counts: &Counts) {
        self.succeeded += counts.get(SUCCEEDED);
        self.failed += counts.get(FAILED);
        self.archived += counts.get(ARCHIVED);
        self.lost += counts.get(LOST);
    }
}

impl Failed {
    pub(super) fn counts(self) -> Counts {
        let numbers = [(FAILED, self.failed), (ARCHIVED, self.archived)];
        numbers.into_iter().collect()
    }

    fn of(counts: &Counts) -> Self {
        Self::new(counts.get(FAILED), counts.get(ARCHIVED))
    }
}

impl Failures {
    /// The failures in points of one series. Points with an unreadable note, and those beyond the limit of keys, count
    /// for their queue only.
    pub(crate) fn of_points(points: Vec<Point>) -> Self {
        let mut queues = BTreeMap::<Name, Ended>::new();
        let mut causes = BTreeMap::<Fingerprint, Cause>::new();
        for point in points {
            if point.key == ENDED {
                queues.entry(point.group).or_default().add(&point.counts);
            } else if let Ok(fingerprint) = point.key.parse() {
                add_cause(&mut causes, fingerprint, &point);
            }
        }
        let mut causes: Vec<_> = causes.into_values().collect();
        causes.sort_by_key(|cause| std::cmp::Reverse(cause.failed().failed));
        Self { causes, queues }
    }
}

fn add_cause(causes: &mut BTreeMap<Fingerprint, Cause>, fingerprint: Fingerprint, point: &Point) {
    let Ok(note) = serde_json::from_slice::<Note>(&point.note) else {
        return;
    };
    let queue = &point.group;
    let first = note.first.max(point.at);
    let id = TaskId::new(&note.id).ok();
    let task = id.map(|id| TaskRef::new(queue.clone(), id));
    let cause = causes.entry(fingerprint).or_insert_with(|| Cause {
        fingerprint,
        event: note.event.clone(),
        kind: note.kind,
        message: note.message.clone(),
        example: String::new(),
        task: None,
        queues: BTreeMap::new(),
        first,
        last: first,
        series: BTreeMap::new(),
    });
    // The latest example: its task is still stored most likely.
    if cause.example.is_empty() || first >= cause.last {
        (cause.example, cause.task) = (note.example, task);
    }
    cause.add(queue, Failed::of(&point.counts), first, point.at);
}
