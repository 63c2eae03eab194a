//! Audit entries in words.

use super::{AuditEntry, AuditTarget};
use crate::inspector::ActionKind;

/// The change in words: what was done, to which tasks, where, and why.
pub(super) fn describe(entry: &AuditEntry) -> String {
    if entry.action == AuditEntry::DEPLOY {
        return format!("deployed version {}", entry.on.name());
    }
    let mut text = format!("{} {}", verb(entry), object(entry));
    if let Some(queue) = &entry.destination {
        text += &format!(" to queue {queue}");
    }
    if let Some(task) = &entry.enqueued {
        text += &format!(" as task {task}");
    }
    if entry.refused > 0 {
        text += &format!(", refused for {}", entry.refused);
    }
    for more in [&entry.details, &entry.reason].into_iter().flatten() {
        text += &format!(": {more}");
    }
    if entry.bulk.as_ref().is_some_and(|bulk| !bulk.is_complete) {
        text += " (not complete)";
    }
    if let Some(error) = &entry.error {
        text += &format!(" (ended early: {error})");
    }
    text
}

/// What was done, in the past tense.
fn verb(entry: &AuditEntry) -> &str {
    let is_outbox = matches!(entry.on, AuditTarget::Outbox(_));
    match entry.kind() {
        Some(ActionKind::Retry) if is_outbox => "requested a change of",
        Some(ActionKind::Retry) => "retried",
        Some(ActionKind::Run) => "ran",
        Some(ActionKind::Archive) => "archived",
        Some(ActionKind::Cancel) => "cancelled",
        Some(ActionKind::Edit) => "edited",
        Some(ActionKind::Move) => "moved",
        Some(ActionKind::Delete) if is_outbox => "requested a change of",
        Some(ActionKind::Delete) => "deleted",
        Some(ActionKind::Pause) => "paused",
        Some(ActionKind::Resume) => "resumed",
        Some(ActionKind::Trigger) => "triggered",
        Some(ActionKind::Quiet) => "stopped leasing of",
        None => match entry.action.as_str() {
            AuditEntry::AGAIN => "enqueued again",
            AuditEntry::PUT => "put",
            other => other,
        },
    }
}

/// What it was done to.
fn object(entry: &AuditEntry) -> String {
    let place = match &entry.on {
        AuditTarget::Queue(name) => format!("queue {name}"),
        AuditTarget::Schedule(name) => format!("schedule entry {name}"),
        AuditTarget::Server(name) => format!("server {name}"),
        AuditTarget::Outbox(name) => format!("outbox {name}"),
        other => format!("{} {}", other.kind(), other.name()),
    };
    match (&entry.bulk, &entry.tasks[..]) {
        (Some(bulk), _) => {
            let all = count(entry.done, &format!("{} task", bulk.state));
            match bulk.filter.as_str() {
                "" => format!("{all} in {place}"),
                filter => format!("{all} in {place} that match `{filter}`"),
            }
        }
        (None, [task]) if entry.done <= 1 => format!("task {task} in {place}"),
        (None, []) if is_of_place(entry) => place,
        _ => format!("{} in {place}", count(entry.done, "task")),
    }
}

/// Whether it changed the queue or another place itself, and not tasks in it.
fn is_of_place(entry: &AuditEntry) -> bool {
    let is_of_tasks = entry.kind().is_some_and(ActionKind::applies_to_tasks);
    let may_be_either = entry.kind() == Some(ActionKind::Delete);
    !is_of_tasks || may_be_either || !matches!(entry.on, AuditTarget::Queue(_))
}

fn count(n: u64, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}
