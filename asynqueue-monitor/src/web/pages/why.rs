//! Why a queue or a task waits, and which servers take from a queue.

use asynqueue_core::{
    broker::{Pause, ServerInfo},
    inspector::{Cause, QueueWait, Taker, TakerState, TaskWait},
    task::TaskRef,
};
use maud::{Markup, html};

use crate::web::{request::View, show, version::version_of_servers};

/// How many servers a queue page names.
const NAMED: usize = 12;

/// The causes for which a queue waits, and the servers that take from it.
pub(super) fn of_queue(view: &View, wait: &QueueWait, servers: &[ServerInfo]) -> Markup {
    // The page shows these figures anyway.
    let shown = |cause: &&Cause| !matches!(cause, Cause::Pending { .. });
    let causes: Vec<_> = wait.causes.iter().filter(shown).collect();
    html! {
        div id="why" data-fresh="servers" data-version=(version_of_servers(servers, view.now)) {
            (list(view, &causes))
            @if !wait.takers.is_empty() {
                p.note {
                    "Taken by "
                    @for (place, taker) in wait.takers.iter().take(NAMED).enumerate() {
                        @if place > 0 { ", " }
                        (one(view, taker))
                    }
                    @if let Some(more @ 1..) = wait.takers.len().checked_sub(NAMED) {
                        " and " a href=(view.links.page("servers")) { (show::number(more as u64)) " more" }
                    }
                }
            }
        }
    }
}

/// The causes for which a task waits. Empty if it does not wait.
pub(super) fn of_task(view: &View, wait: Option<&TaskWait>, servers: &[ServerInfo]) -> Markup {
    let causes: Vec<_> = wait.iter().flat_map(|wait| &wait.causes).collect();
    html! {
        div id="why" data-fresh="servers" data-version=(version_of_servers(servers, view.now)) {
            @if !causes.is_empty() { section { h2 { "Why it waits" } (list(view, &causes)) } }
        }
    }
}

fn list(view: &View, causes: &[&Cause]) -> Markup {
    html! {
        @if !causes.is_empty() {
            ul.causes {
                @for cause in causes {
                    li.grave[!cause.passes()] { (in_words(cause, view)) "." (held_by(view, cause)) }
                }
            }
        }
    }
}

/// Who paused a schedule entry, when and why.
pub(super) fn of_pause(view: &View, pause: Option<&Pause>) -> Markup {
    html! {
        ul.causes { li.grave {
            "Paused"
            @if let Some(pause) = pause {
                " " (view.time(pause.since))
                @if let Some(actor) = &pause.by { " by " (actor) }
                @if let Some(reason) = &pause.reason { ": " (reason) }
            }
        } }
    }
}

/// The tasks that hold the places of a limit.
fn held_by(view: &View, cause: &Cause) -> Markup {
    let holders: &[TaskRef] = match cause {
        Cause::QueueLimit { holders, .. } | Cause::Limit { holders, .. } => holders,
        _ => &[],
    };
    html! {
        @if !holders.is_empty() {
            " Running: "
            @for (place, task) in holders.iter().enumerate() {
                @if place > 0 { ", " }
                a href=(view.links.task(task)) { (task.id) }
            }
            "."
        }
    }
}

/// A server, with what it runs of the queue.
fn one(view: &View, taker: &Taker) -> Markup {
    html! {
        a href=(view.links.page("servers")) { (taker.server) }
        " ("
        @if taker.state == TakerState::Lost { "lost" } @else {
            @if let Some(max) = taker.max { "limit " (show::number(max)) ", " }
            (show::number(taker.running)) " running"
            @if !taker.is_working() { ", " (taker.state.as_str()) }
            @else if taker.is_busy() { ", all " (show::number(taker.slots)) " slots busy" }
        }
        ")"
    }
}

/// The cause as a sentence, with its names as code.
fn in_words(cause: &Cause, view: &View) -> Markup {
    let text = capitalized(&cause.describe(view.now));
    html! {
        @for (place, part) in text.split('`').enumerate() {
            @if place % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(letters).collect()
}
