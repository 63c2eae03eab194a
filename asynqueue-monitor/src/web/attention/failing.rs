//! Failures, by cause.

use std::{cmp::Reverse, collections::HashMap, time::Duration};

use asynqueue_core::{
    failure::{Cause, Ended, Failed},
    inspector::{Filter, QueueInfo},
    task::{FailureKind, Name, TaskState, Timestamp},
};

use super::{Concern, Figures, Key, Place, tasks};
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

/// The number of causes of one queue that are reported by themselves, the gravest ones. The others share the entry of
/// the queue, so that a message with a name in it has no list of names.
const EACH: usize = 5;

pub(super) fn add(figures: &Figures<'_>, all: &mut Vec<Concern>) {
    let failures = figures.failures;
    let queues = figures.queues.iter();
    let left: HashMap<_, _> = queues
        .map(|queue| (&queue.name, failed_tasks(queue)))
        .collect();
    let left = |queue: &Name| left.get(queue).copied().unwrap_or_default();
    let mut reported = Vec::new();
    for cause in &failures.causes {
        let ended = |queue: &Name| failures.queues.get(queue).map_or(0, |ended| ended.all());
        let attempts = cause.queues.keys().map(ended).sum::<u64>();
        let failed = cause.failed();
        // Lost attempts are reported by queue, unless their tasks were archived.
        let is_failure = cause.kind != FailureKind::LeaseExpired || failed.archived > 0;
        if is_failure && is_worth_reporting(failed, attempts) {
            let left = cause.queues.keys().map(left).sum();
            let weight = weight_of(figures, failed, attempts, Some(cause.last), left);
            let concern = of_cause(figures, cause, failed, attempts);
            reported.push((cause, concern.weighing(failed.failed, weight)));
        }
    }
    reported.sort_by_key(|(_, concern)| Reverse(concern.weight));
    let mut shared = by_queue(&failures.causes, &mut reported);
    for (queue, ended) in &failures.queues {
        let shared = shared.remove(queue).unwrap_or_default();
        all.extend(of_others(figures, queue, *ended, shared, left(queue)));
        if ended.lost > 0 {
            all.push(of_lost(queue, ended.lost));
        }
    }
    let concerns = reported.into_iter().map(|(_, concern)| concern);
    all.extend(concerns.filter(|concern| concern.weight > 0));
}

/// What the entry of a queue depends on, besides its attempts.
#[derive(Default)]
struct Shared {
    /// When one of its causes failed last. `None` if no cause is known.
    last: Option<Timestamp>,
    /// The causes that only this queue has, and how many of them have an entry of their own.
    own: usize,
    listed: usize,
    /// The failures of causes with an entry of their own.
    explained: Failed,
    /// The causes that share the entry of the queue.
    covers: Vec<Key>,
}

/// The queues that failed. Takes the causes from the list that share the entry of their queue: of too many causes that
/// only one queue has, all but the gravest.
fn by_queue<'f>(
    causes: &'f [Cause],
    reported: &mut Vec<(&'f Cause, Concern)>,
) -> HashMap<&'f Name, Shared> {
    let mut queues: HashMap<&Name, Shared> = HashMap::new();
    for cause in causes {
        for queue in cause.queues.keys() {
            let shared = queues.entry(queue).or_default();
            shared.last = shared.last.max(Some(cause.last));
        }
    }
    for queue in reported.iter().filter_map(|(_, one)| one.queue.as_ref()) {
        if let Some(shared) = queues.get_mut(queue) {
            shared.own += 1;
        }
    }
    reported.retain(|(cause, concern)| {
        let of_one = concern.queue.as_ref();
        let shared = of_one.and_then(|queue| queues.get_mut(queue));
        if let Some(shared) = shared.filter(|shared| shared.own > EACH + 1) {
            if shared.listed == EACH {
                shared.covers.push(concern.owned_key());
                return false;
            }
            shared.listed += 1;
        }
        for (queue, failed) in &cause.queues {
            if let Some(shared) = queues.get_mut(queue) {
                shared.explained.failed += failed.failed;
                shared.explained.archived += failed.archived;
            }
        }
        true
    });
    queues
}

/// The failures of a queue that are not reported by cause: those of its lesser causes, and those that servers counted
/// for the queue only, because it fails for more causes than are kept.
fn of_others(
    figures: &Figures<'_>,
    queue: &Name,
    ended: Ended,
    shared: Shared,
    left: u64,
) -> Option<Concern> {
    let rest = Failed::new(
        ended.failed.saturating_sub(shared.explained.failed),
        ended.archived.saturating_sub(shared.explained.archived),
    );
    if !is_worth_reporting(rest, ended.all()) {
        return None;
    }
    let weight = weight_of(figures, rest, ended.all(), shared.last, left);
    let other = match rest.failed < ended.failed {
        true => "other ",
        false => "",
    };
    let text = format!(
        "{} in the last 15 minutes, for many {other}causes.",
        share(rest, ended.all())
    );
    let mut concern = Concern::of_queue("failing_queue", queue, state_of(rest), text);
    concern.covers = shared.covers;
    (weight > 0).then(|| concern.weighing(rest.failed, weight))
}

/// The attempts of a queue that were lost with their workers.
fn of_lost(queue: &Name, lost: u64) -> Concern {
    let text = format!(
        "{} lost with {} worker in the last 15 minutes: {} lease expired. The tasks run again.",
        match lost {
            1 => "1 attempt was".to_owned(),
            lost => format!("{} attempts were", show::number(lost)),
        },
        if lost == 1 { "its" } else { "their" },
        if lost == 1 { "its" } else { "their" },
    );
    let concern = Concern::of_queue("lost_attempts", queue, TaskState::Retry, text);
    concern.weighing(lost, lost / 4 + 1)
}

/// The weight of failures the last of which was at `last`. Once they have stopped, it is limited by the number of tasks
/// that they can have left behind: those in the archives and lists of retries of their queues, whatever their cause.
///
/// Otherwise a cause whose tasks have all been retried would hide the next one for the rest of the [`SPAN`].
///
/// [`SPAN`]: super::SPAN
fn weight_of(
    figures: &Figures<'_>,
    failed: Failed,
    attempts: u64,
    last: Option<Timestamp>,
    left: u64,
) -> u64 {
    let weight = weight(failed, attempts);
    match last {
        Some(last) if figures.now.since(last) >= STOPPED => weight.min(left),
        _ => weight,
    }
}

/// The tasks of a queue that wait after a failure.
fn failed_tasks(queue: &QueueInfo) -> u64 {
    queue.stats.count(TaskState::Archived) + queue.stats.count(TaskState::Retry)
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
        covers: Vec::new(),
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
