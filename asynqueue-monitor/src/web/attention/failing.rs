//! Failures, by cause.

use std::time::Duration;

use asynqueue_core::{
    failure::{Cause, Failed},
    inspector::{Filter, QueueInfo},
    task::{FailureKind, Name, TaskState, Timestamp},
};

use super::{Concern, Figures, Place, tasks};
use crate::web::show;

/// A cause without archived tasks is reported from this many failures on if they are [`MIN_SHARE`] of the attempts.
const MIN_FAILED: u64 = 5;

/// The inverse of the lowest share of failed attempts that is reported: 5 %.
const MIN_SHARE: u64 = 20;

/// This many failures are reported whatever their share.
const MANY_FAILED: u64 = 100;

/// A cause without failures for this long has stopped: only the tasks that it left behind need attention. It is longer
/// than a minute, to which the last failure is known, and than servers take to report it.
const STOPPED: Duration = Duration::from_secs(2 * 60);

/// The number of queues that a text names.
const NAMED: usize = 3;

pub(super) fn add(figures: &Figures<'_>, all: &mut Vec<Concern>) {
    let failures = figures.failures;
    let mut explained = Vec::new();
    for cause in &failures.causes {
        let ended = |queue: &Name| failures.queues.get(queue).map_or(0, |ended| ended.all());
        let attempts = cause.queues.keys().map(ended).sum::<u64>();
        let failed = cause.failed();
        // Lost attempts are reported by queue, unless their tasks were archived.
        let is_failure = cause.kind != FailureKind::LeaseExpired || failed.archived > 0;
        if is_failure && is_worth_reporting(failed, attempts) {
            explained.extend(cause.queues.keys());
            let weight = weight(failed, attempts).min(left(figures, cause).unwrap_or(u64::MAX));
            if weight > 0 {
                all.push(
                    of_cause(figures, cause, failed, attempts).weighing(failed.failed, weight),
                );
            }
        }
    }
    for (queue, ended) in &failures.queues {
        let failed = Failed::new(ended.failed, ended.archived);
        if is_worth_reporting(failed, ended.all()) && !explained.contains(&queue) {
            let state = state_of(failed);
            let text = format!(
                "{} in the last 15 minutes, for many causes.",
                share(failed, ended.all())
            );
            let concern = Concern::of_queue("failing_queue", queue, state, text);
            all.push(concern.weighing(failed.failed, weight(failed, ended.all())));
        }
        if ended.lost > 0 {
            let text = format!(
                "{} lost with {} worker in the last 15 minutes: {} lease expired. The tasks run again.",
                match ended.lost {
                    1 => "1 attempt was".to_owned(),
                    lost => format!("{} attempts were", show::number(lost)),
                },
                if ended.lost == 1 { "its" } else { "their" },
                if ended.lost == 1 { "its" } else { "their" },
            );
            let concern = Concern::of_queue("lost_attempts", queue, TaskState::Retry, text);
            all.push(concern.weighing(ended.lost, ended.lost / 4 + 1));
        }
    }
}

/// The most tasks that a cause which has stopped can have left behind: those in the archives and lists of retries of its
/// queues, whatever their cause. `None` while it lasts.
///
/// Otherwise a cause whose tasks have all been retried would hide the next one for the rest of the [`SPAN`].
///
/// [`SPAN`]: super::SPAN
fn left(figures: &Figures<'_>, cause: &Cause) -> Option<u64> {
    let waiting = |queue: &QueueInfo| {
        queue.stats.count(TaskState::Archived) + queue.stats.count(TaskState::Retry)
    };
    let of_cause = |queue: &&QueueInfo| cause.queues.contains_key(&queue.name);
    let has_stopped = figures.now.since(cause.last) >= STOPPED;
    has_stopped.then(|| figures.queues.iter().filter(of_cause).map(waiting).sum())
}

/// Archived tasks do not run again by themselves, so one is enough.
fn is_worth_reporting(failed: Failed, attempts: u64) -> bool {
    let is_frequent = failed.failed >= MIN_FAILED && failed.failed * MIN_SHARE >= attempts;
    failed.archived > 0 || failed.failed >= MANY_FAILED || is_frequent
}

/// Failures weigh by their share of the attempts. Archived tasks weigh once more, because nothing retries them.
fn weight(failed: Failed, attempts: u64) -> u64 {
    let all = u128::from(attempts.max(failed.failed).max(1));
    let shared = u128::from(failed.failed) * u128::from(failed.failed) / all;
    u64::try_from(shared)
        .unwrap_or(u64::MAX)
        .saturating_add(failed.archived)
}

/// Where most of the failed tasks are now.
fn state_of(failed: Failed) -> TaskState {
    match failed.archived * 2 >= failed.failed {
        true => TaskState::Archived,
        false => TaskState::Retry,
    }
}

fn share(failed: Failed, attempts: u64) -> String {
    let archived = match failed.archived {
        0 => String::new(),
        archived => format!(" and {} archived", archived_tasks(archived)),
    };
    let attempts = attempts.max(failed.failed);
    let attempt = if attempts == 1 { "attempt" } else { "attempts" };
    format!(
        "{} of {} {attempt} failed{archived}",
        show::number(failed.failed),
        show::number(attempts),
    )
}

fn archived_tasks(count: u64) -> String {
    let verb = if count == 1 { "was" } else { "were" };
    format!("{} {verb}", tasks(count))
}

fn of_cause(figures: &Figures<'_>, cause: &Cause, failed: Failed, attempts: u64) -> Concern {
    let one_queue = match cause.queues.len() {
        1 => cause.queues.keys().next().cloned(),
        _ => None,
    };
    let place = one_queue.as_ref().map_or_else(
        || Place::Cause(cause.fingerprint),
        |queue| Place::Tasks {
            queue: queue.clone(),
            state: state_of(failed),
            filter: Filter::default().cause(cause.fingerprint).into(),
        },
    );
    let text = format!(
        "{} fails with {}{}. {} in the last 15 minutes{}. First {}, last {} ago.",
        show::cut(&cause.event),
        cause.kind,
        message(cause),
        share(failed, attempts),
        in_queues(cause),
        show::distance(cause.first, figures.now),
        since_minute(cause.last, figures.now),
    );
    Concern {
        kind: "failing_cause",
        about: format!("{} {}", cause.event, cause.fingerprint),
        weight: 0,
        count: 0,
        queue: one_queue,
        cause: Some(cause.fingerprint),
        place,
        text,
    }
}

/// The message of a cause after its kind. It may be empty.
fn message(cause: &Cause) -> String {
    match cause.message.trim() {
        "" => " without a message".to_owned(),
        text => format!(": {}", show::cut(text)),
    }
}

/// How long ago something happened that was at this time or within a minute after it: `less than 2 minutes`.
fn since_minute(time: Timestamp, now: Timestamp) -> String {
    match now.since(time).as_secs().div_ceil(60) {
        0 | 1 => "less than a minute".to_owned(),
        minutes => format!("less than {minutes} minutes"),
    }
}

/// The queues of a cause that is in several.
fn in_queues(cause: &Cause) -> String {
    let count = cause.queues.len();
    if count == 1 {
        return String::new();
    }
    let mut names: Vec<_> = cause
        .queues
        .keys()
        .take(NAMED)
        .map(ToString::to_string)
        .collect();
    if let Some(others @ 1..) = count.checked_sub(NAMED) {
        names.push(format!("{} more", show::number(others as u64)));
    }
    format!(", in {}", names.join(", "))
}
