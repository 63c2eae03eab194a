//! The past and future events of a task.

use asynqueue_core::{
    broker::TaskInfo,
    task::{Attempt, Failure, TaskState, Timestamp},
};
use maud::{Markup, html};

use crate::web::{reading::queue::Running, request::View, show};

/// All events, oldest first. `running` is the running attempt, as its server reports it.
pub(super) fn timeline(view: &View, info: &TaskInfo, running: Option<Running<'_>>) -> Markup {
    let envelope = &info.envelope;
    let mut events = vec![(envelope.enqueued_at, html! { "enqueued" })];
    let is_lost = running.is_some_and(|(server, _)| server.is_lost(view.now));
    let others = envelope.failures().iter();
    let others = others.filter(|failure| !failure.is_attempt());
    events.extend(others.map(|other| (other.at, reason(other))));
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
        @if let Some(backtrace) = &failure.backtrace {
            details { summary { "Backtrace" } pre { (backtrace) } }
        }
    }
}
