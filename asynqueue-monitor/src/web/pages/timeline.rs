//! The past and future events of a task.

use std::time::Duration;

use asynqueue_core::{
    broker::TaskInfo,
    inspector::{ActionKind, ActionTarget, AuditEdit, AuditEntry},
    task::{Attempt, Failure, TaskState, Timestamp},
};
use maud::{Markup, html};
use serde_json::Value;

use super::audit::{before, who};
use crate::web::{
    backtrace::frames, reading::queue::Running, request::View, show, version::version_of_payload,
};

/// All events, oldest first. `running` is the running attempt, as its server reports it.
pub(super) fn timeline(
    view: &View,
    info: &TaskInfo,
    running: Option<Running<'_>>,
    changes: &[AuditEntry],
) -> Markup {
    let envelope = &info.envelope;
    let mut events = vec![(envelope.enqueued_at, html! { "enqueued" })];
    let is_lost = running.is_some_and(|(server, _)| server.is_lost(view.now));
    let others = envelope.failures().iter();
    let others = others.filter(|failure| !failure.is_attempt());
    events.extend(others.map(|other| (other.at, reason(other))));
    let changes = changes.iter().filter(|change| !is_shown(info, change));
    events.extend(changes.map(|change| (change.at, changed(view, info, change))));
    for attempt in info.attempts() {
        let started = running.map(|(_, running)| running.started);
        let at = attempt.started.or(attempt.ended).or(started);
        events.push((at.unwrap_or(view.now), one(view, &attempt, running)));
    }
    events.extend(next(info));
    events.sort_by_key(|(at, _)| *at);
    html! {
        ol.timeline { @for (at, event) in events {
            @let has_stopped = is_lost && running.is_some_and(|(_, running)| running.started == at);
            li { @if !has_stopped { (view.time(at)) " " } span.date { (view.date(at)) } " " (event) }
        } }
    }
}

/// Whether a change is among the failures of the task, with its reason and who made it.
fn is_shown(info: &TaskInfo, change: &AuditEntry) -> bool {
    let mut failures = info.envelope.failures().iter();
    let is_near = |at: Timestamp| at.since(change.at).max(change.at.since(at)) < NEAR;
    let has_reason = change.reason.is_some() || change.destination.is_some();
    has_reason && failures.any(|failure| !failure.is_attempt() && is_near(failure.at))
}

/// A change is recorded after it was made.
const NEAR: Duration = Duration::from_secs(5);

/// A change by a person. The payload before an edit can be restored.
fn changed(view: &View, info: &TaskInfo, change: &AuditEntry) -> Markup {
    let edited = change.kind() == Some(ActionKind::Edit);
    let old = change.edit.as_ref().filter(|_| edited);
    let old = old.and_then(AuditEdit::payload);
    let old = old.filter(|old| *old != view.inspector.payload(info));
    let applies = ActionKind::Edit.applies_to(ActionTarget::Task(info.state));
    html! {
        (change.describe()) ", by " (who(change)) (before(change))
        @if let Some(old) = old.filter(|_| applies && view.may_change()) { (restore(view, info, &old)) }
    }
}

fn restore(view: &View, info: &TaskInfo, old: &Value) -> Markup {
    let queue = view.links.queue(&info.envelope.queue);
    html! {
        form.actions method="post" action=(format!("{queue}/tasks")) {
            input type="hidden" name="state" value=(info.state.as_str());
            input type="hidden" name="id" value=(info.envelope.id);
            input type="hidden" name="which" value="chosen";
            input type="hidden" name="back" value="task";
            input type="hidden" name="seen" value=(version_of_payload(&view.inspector, info));
            input type="hidden" name="payload" value=(old);
            button name="do" value=(ActionKind::Edit) { "Restore this payload" }
        }
    }
}

/// When the task entered its state or will leave it.
fn next(info: &TaskInfo) -> Option<(Timestamp, Markup)> {
    let words = match info.state {
        TaskState::Scheduled => "due",
        TaskState::Retry => "retry due",
        TaskState::Archived => "archived",
        TaskState::Completed => "retention ends",
        _ => return None,
    };
    Some((info.at?, html! { (words) }))
}

fn one(view: &View, attempt: &Attempt, running: Option<Running<'_>>) -> Markup {
    html! {
        "attempt " (attempt.number) " "
        @match &attempt.failure {
            Some(failure) => { span.kind { (failure.kind) } },
            None if attempt.ended.is_some() => { span.good { "succeeded" } },
            None => { span.paused { "running" } },
        }
        @if let (Some(started), Some(ended)) = (attempt.started, attempt.ended) {
            " after " (show::duration(ended.since(started)))
        }
        @if let Some(worker) = &attempt.worker { ", on " (worker) }
        @if let Some((server, running)) = running.filter(|_| attempt.ended.is_none()) {
            @let is_lost = server.is_lost(view.now);
            ", deadline " (view.time_of(running.deadline, !is_lost))
            @if is_lost { " " span.kind { "server lost" } }
        }
        @if let Some(failure) = &attempt.failure { (message(failure)) }
    }
}

/// An event that is not an attempt, such as an operator's action.
fn reason(failure: &Failure) -> Markup {
    html! { span.kind { (failure.kind) } (message(failure)) }
}

fn message(failure: &Failure) -> Markup {
    html! {
        pre.message { (failure.message) }
        @if let Some(text) = &failure.backtrace { (backtrace(text)) }
    }
}

/// The frames of the program, and the complete backtrace folded.
fn backtrace(text: &str) -> Markup {
    let frames = frames(text);
    let own: Vec<_> = frames.iter().filter(|frame| frame.is_own).collect();
    html! {
        @if !own.is_empty() {
            pre.frames { @for frame in own { (frame.lines.join("\n")) "\n" } }
        }
        details {
            summary { "Backtrace" @if !frames.is_empty() { ": " (frames.len()) " frames" } }
            pre {
                @if frames.is_empty() { (text) }
                @for frame in &frames {
                    @let lines = frame.lines.join("\n");
                    @if frame.is_own { b { (lines) } } @else { (lines) }
                    "\n"
                }
            }
        }
    }
}
