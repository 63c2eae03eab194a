//! Formats calls, one per line.

use asynqueue_core::{
    broker::{Change, Conflict, Each, Edit, Leased, Move, NewTask, TaskInfo, When},
    task::{Envelope, Name},
};

use super::call::{Answer, Call, Request};
use crate::property::outcome_in_words;

/// Whether a request uses this queue.
pub(super) fn is_about(call: &Call, queue: &Name) -> bool {
    match &call.request {
        Request::Enqueue(tasks) => tasks.iter().any(|task| task.envelope.queue == *queue),
        Request::Lease { queues, .. } => queues.iter().any(|(name, _)| name == queue),
        Request::Extend(leases, _) => leases.iter().any(|lease| lease.task.queue == *queue),
        Request::Settle(settlements) => {
            (settlements.iter()).any(|one| one.envelope.queue == *queue)
        }
        Request::Edit(edits) => edits.iter().any(|edit| edit.seen.envelope.queue == *queue),
        Request::Look(tasks) => tasks.iter().any(|task| task.queue == *queue),
    }
}

/// When a call started and ended, its client, and its requests and responses in this queue. A response after `until` is
/// not shown.
pub(super) fn line(call: &Call, queue: &Name, until: u64) -> String {
    let end = call.end.filter(|end| *end <= until);
    let time = match end {
        Some(end) => format!("{:4}..{end:<4}", call.begin),
        None => format!("{:4}..    ", call.begin),
    };
    let items = match &call.answer {
        _ if end.is_none() => items(call, None, queue),
        Some(Ok(answer)) => items(call, Some(answer), queue),
        Some(Err(error)) => format!("{} => failed: {error}", items(call, None, queue)),
        None => items(call, None, queue),
    };
    format!("{time} client {}: {items}", call.client.number)
}

/// The parts of a request in this queue, each with its response.
fn items(call: &Call, answer: Option<&Answer>, queue: &Name) -> String {
    let part = |request: String, place: usize| match answer {
        Some(answer) => format!("{request} -> {}", answered(answer, place)),
        None => request,
    };
    let (what, parts): (String, Vec<_>) = match &call.request {
        Request::Enqueue(tasks) => {
            let of = places(tasks, |task| task.envelope.queue == *queue);
            let show = |(place, task): (usize, &NewTask)| part(new_task(task), place);
            ("enqueue".into(), of.map(show).collect())
        }
        Request::Lease { queues, lease } => {
            let of = places(queues, |(name, _)| name == queue);
            let show =
                |(place, (_, cap)): (usize, &(Name, usize))| part(format!("up to {cap}"), place);
            (format!("lease for {lease:?}"), of.map(show).collect())
        }
        Request::Extend(leases, by) => {
            let of = places(leases, |lease| lease.task.queue == *queue);
            let show = |(place, lease): (usize, &asynqueue_core::broker::Lease)| {
                part(format!("{} {:x}", lease.task.id, lease.token.0), place)
            };
            (format!("extend for {by:?}"), of.map(show).collect())
        }
        Request::Settle(settlements) => {
            let of = places(settlements, |one| one.envelope.queue == *queue);
            let show = |(place, one): (usize, &asynqueue_core::broker::Settlement)| {
                let condition = if one.only_if_expired {
                    " if expired"
                } else {
                    ""
                };
                let outcome = outcome_in_words(&one.outcome);
                let task = task(&one.envelope);
                part(
                    format!("{task} {:x}{condition}: {outcome}", one.token.0),
                    place,
                )
            };
            ("settle".into(), of.map(show).collect())
        }
        Request::Edit(edits) => {
            let of = places(edits, |edit| edit.seen.envelope.queue == *queue);
            let show = |(place, one): (usize, &Edit)| part(edit(one), place);
            ("edit".into(), of.map(show).collect())
        }
        Request::Look(tasks) => {
            let of = places(tasks, |task| task.queue == *queue);
            let show = |(place, task): (usize, &asynqueue_core::task::TaskRef)| {
                part(task.id.to_string(), place)
            };
            ("look up".into(), of.map(show).collect())
        }
    };
    format!("{what} {}", parts.join(" + "))
}

fn places<T>(items: &[T], is_of: impl Fn(&T) -> bool) -> impl Iterator<Item = (usize, &T)> {
    items
        .iter()
        .enumerate()
        .filter(move |(_, item)| is_of(item))
}

fn answered(answer: &Answer, place: usize) -> String {
    fn each<T: std::fmt::Debug>(answers: &Each<T>, place: usize) -> String {
        match &answers[place] {
            Ok(answer) => format!("{answer:?}").to_lowercase(),
            Err(error) => format!("failed: {error}"),
        }
    }
    match answer {
        Answer::Enqueued(answers) => match &answers[place] {
            Ok(()) => "accepted".into(),
            Err(Conflict::Id { state, .. }) => format!("exists, {state}"),
            Err(Conflict::Unique { holder, state, .. }) => {
                format!("{holder} holds its key, {state}")
            }
            Err(other) => other.to_string(),
        },
        Answer::Leased(answers) => match &answers[place] {
            Ok(leased) if leased.is_empty() => "nothing".into(),
            Ok(leased) => leased.iter().map(lease).collect::<Vec<_>>().join(", "),
            Err(error) => format!("failed: {error}"),
        },
        Answer::Extended(answers) => each(answers, place),
        Answer::Settled(answers) => each(answers, place),
        Answer::Edited(answers) => format!("{:?}", answers[place]).to_lowercase(),
        Answer::Looked(answers) => match &answers[place] {
            Some(found) => info(found),
            None => "nothing".into(),
        },
    }
}

/// A task, with the fields that distinguish its versions in a history.
fn task(envelope: &Envelope) -> String {
    let payload = String::from_utf8_lossy(&envelope.payload);
    match envelope.last_failure() {
        Some(failure) => format!("{} [{payload} {}]", envelope.id, failure.message),
        None => format!("{} [{payload}]", envelope.id),
    }
}

fn new_task(NewTask { envelope, when, .. }: &NewTask) -> String {
    let mut text = task(envelope);
    if let When::After(delay) = when {
        text += &format!(" after {delay:?}");
    }
    if envelope.options.priority > 0 {
        text += &format!(" priority {}", envelope.options.priority);
    }
    if let Some(lock) = &envelope.unique {
        text += &format!(" key {}", lock.key.as_str());
    }
    text
}

fn lease(leased: &Leased) -> String {
    let again = if leased.pending_since.is_none() {
        " again"
    } else {
        ""
    };
    format!("{} {:x}{again}", task(&leased.envelope), leased.token.0)
}

fn info(found: &TaskInfo) -> String {
    format!("{} {}", task(&found.envelope), found.state)
}

fn edit(edit: &Edit) -> String {
    let change = match &edit.change {
        Change::Cancel { reason } => format!("cancel, {reason}"),
        Change::Delete => "delete".into(),
        Change::Put { envelope, to } => {
            let place = match to {
                None => "in its place",
                Some(Move::Pending) => "pending",
                Some(Move::Scheduled(_)) => "scheduled",
                Some(Move::Archived) => "archived",
            };
            format!(
                "put [{}] {place}",
                String::from_utf8_lossy(&envelope.payload)
            )
        }
    };
    format!("{}: {change}", info(&edit.seen))
}
