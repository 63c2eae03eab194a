//! Formats operations, one per line, for test reports.

use std::{fmt, time::Duration};

use asynqueue_core::{
    broker::{NewTask, Outcome, When},
    task::{Clock, TaskRef, Timestamp},
    testing::TestClock,
};

use super::{
    Operation, QUEUES,
    operation::{OnlyIfExpired, Place},
};

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enqueue(tasks) => write!(f, "enqueue {}", joined(tasks, new_task)),
            Self::Lease { caps, max, lease } => {
                let caps = joined(caps, |(queue, cap)| format!("{cap} of {}", QUEUES[*queue]));
                write!(f, "lease up to {max} for {lease:?}: {caps}")
            }
            Self::Extend(places, lease) => {
                write!(f, "extend {} for {lease:?}", joined(places, place))
            }
            Self::Settle(outcomes) => write!(f, "settle {}", joined(outcomes, settlement)),
            Self::Reclaim(limit) => write!(f, "reclaim up to {limit}"),
            Self::Forward(limit) => write!(f, "forward up to {limit}"),
            Self::Trim(keep, limit) => write!(
                f,
                "trim {limit} at a time, keep {} archived for {:?}",
                keep.archived_max, keep.archived_for
            ),
            Self::Report(progress) => {
                let reports = joined(progress, |(task, progress)| {
                    format!("{task} at {}", progress.done)
                });
                write!(f, "report {reports}")
            }
            Self::Cancel(tasks) => write!(f, "cancel {}", joined(tasks, TaskRef::to_string)),
            Self::Delete(tasks) => write!(f, "delete {}", joined(tasks, TaskRef::to_string)),
            Self::RunNow(tasks) => write!(f, "run now {}", joined(tasks, TaskRef::to_string)),
            Self::Pause(queue, true) => write!(f, "pause {}", QUEUES[*queue]),
            Self::Pause(queue, false) => write!(f, "resume {}", QUEUES[*queue]),
            Self::Advance(by) => write!(f, "advance {by:?}"),
            Self::Replace(changes) => {
                let shown = joined(changes, |(task, shift)| match shift {
                    Some(shift) => format!("{task}, to {shift:?}"),
                    None => task.to_string(),
                });
                write!(f, "replace {shown}")
            }
            Self::Aggregate(id, limit) => write!(f, "aggregate up to {limit} groups as {id}"),
        }
    }
}

/// As `Display`: the derived form of a single task would fill a screen.
impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn joined<T>(items: &[T], show: impl FnMut(&T) -> String) -> String {
    items.iter().map(show).collect::<Vec<_>>().join(" + ")
}

fn place(place: &Place) -> String {
    match place {
        0 => "the newest lease".into(),
        _ => format!("the newest lease but {place}"),
    }
}

fn settlement((at, outcome, only_if_expired): &(Place, Outcome, OnlyIfExpired)) -> String {
    let lease = place(at);
    let condition = if *only_if_expired { " if expired" } else { "" };
    let outcome = outcome_in_words(outcome);
    format!("{lease}{condition}: {outcome}")
}

/// An outcome, without its result.
pub(crate) fn outcome_in_words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Complete { result: Some(_) } => "complete with a result".into(),
        Outcome::Complete { result: None } => "complete".into(),
        Outcome::Retry { delay } => format!("retry in {delay:?}"),
        Outcome::Snooze { delay } => format!("snooze {delay:?}"),
        Outcome::Release => "release".into(),
        Outcome::Archive => "archive".into(),
        Outcome::Drop => "drop".into(),
    }
}

/// The values that differ from the default.
fn new_task(NewTask { envelope, when, .. }: &NewTask) -> String {
    let mut text = envelope.task_ref().to_string();
    match when {
        When::Now => {}
        When::After(delay) => text += &format!(" after {delay:?}"),
        When::At(time) => text += &format!(" at {:?} of the clock", since_start(*time)),
    }
    let options = &envelope.options;
    if options.priority > 0 {
        text += &format!(" priority {}", options.priority);
    }
    if let (Some(limits), group) = (&options.aggregate, &options.group) {
        let group = group.as_deref().unwrap_or_default();
        text += &format!(
            " in group `{group}` of {} for {:?}",
            limits.max_size, limits.grace
        );
    }
    if options.retention > Duration::ZERO {
        text += &format!(" retention {:?}", options.retention);
    }
    if let Some(lock) = &envelope.unique {
        let until = lock.until.as_str();
        text += &format!(" {} until {until} for {:?}", lock.key.as_str(), lock.ttl);
    }
    text
}

/// Time since the start of test clocks, zero for times long before.
fn since_start(time: Timestamp) -> Duration {
    time.since(TestClock::default().now())
}
