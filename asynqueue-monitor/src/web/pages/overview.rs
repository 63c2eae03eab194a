//! All queues at a glance, what needs attention first.

use std::{cmp::Reverse, collections::HashMap};

use asynqueue_core::{
    inspector::QueueInfo,
    task::{Name, TaskState},
};
use axum::extract::Query;
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    charts::{of_day, of_now},
    search,
};
use crate::web::{
    links::encoded,
    live::{Fleet, Seen},
    request::{Failed, View},
    show,
    version::version_of_queues,
};

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    did: Option<String>,
    #[serde(default)]
    sort: String,
    /// A part of the names of the queues to show.
    #[serde(default)]
    name: String,
    /// How many queues are before those to show.
    #[serde(default)]
    after: usize,
}

/// A column of figures: what it is called, and its figure in figures and addresses.
type Column = (&'static str, &'static str, fn(&QueueInfo) -> u64);

const COLUMNS: [Column; 10] = [
    ("pending", "pending", |queue| {
        queue.stats.count(TaskState::Pending)
    }),
    ("active", "active", |queue| {
        queue.stats.count(TaskState::Active)
    }),
    ("scheduled", "scheduled", |queue| {
        queue.stats.count(TaskState::Scheduled)
    }),
    ("retry", "retry", |queue| {
        queue.stats.count(TaskState::Retry)
    }),
    ("archived", "archived", |queue| {
        queue.stats.count(TaskState::Archived)
    }),
    ("completed", "completed", |queue| {
        queue.stats.count(TaskState::Completed)
    }),
    ("oldest", "latency", |queue| {
        queue.stats.latency.as_millis() as u64
    }),
    ("done today", "succeeded", |queue| queue.today.succeeded),
    ("failed today", "failed", |queue| queue.today.failed),
    ("memory", "memory", |queue| queue.memory.unwrap_or_default()),
];

/// How many of them are states.
const STATES: usize = 6;

/// How many queues a page shows.
const PAGE: usize = 100;

/// How many things that need attention are shown.
const CONCERNS: usize = 20;

pub(crate) async fn show(view: View, Query(asked): Query<Asked>) -> Result<Markup, Failed> {
    let seen = view.shared.live.now().await?;
    let slow = view.shared.live.slow(&seen).await?;
    let mut queues: Vec<_> = seen
        .queues
        .iter()
        .filter(|queue| queue.name.contains(&asked.name))
        .collect();
    if let Some((_, _, figure)) = COLUMNS.iter().find(|(_, key, _)| *key == asked.sort) {
        queues.sort_by_key(|queue| Reverse(figure(queue)));
    }
    Ok(view.page(
        "Queues",
        html! {
            (view.notice(asked.did.as_deref()))
            (totals(&view, &seen))
            (attention(&view, &seen, &slow.blame))
            div.columns {
                (of_day(&view, slow.hours.iter()))
                (of_now())
            }
            @if seen.queues.len() > 10 { (search("queue", &asked.name, &asked.sort)) }
            div id="queues" data-fresh="queues" data-version=(version_of_queues(&seen.queues)) {
                @if seen.queues.is_empty() {
                    p.empty { "No queue has had a task yet." }
                } @else {
                    (table(&view, &asked, &queues))
                }
            }
        },
    ))
}

fn totals(view: &View, seen: &Seen) -> Markup {
    let sum = |figure: fn(&QueueInfo) -> u64| show::number(seen.queues.iter().map(figure).sum());
    let fleet = Fleet::of(&seen.servers, view.now);
    html! {
        dl.figures {
            div { dt { "Pending" } dd data-total="pending" { (sum(|queue| queue.stats.count(TaskState::Pending))) } }
            div { dt { "Running" } dd { span data-total="busy" { (fleet.busy) } " of " span data-total="slots" { (fleet.slots) } } }
            div { dt { "Servers" } dd data-total="servers" { (fleet.servers) } }
            div { dt { "Done today" } dd data-total="succeeded" { (sum(|queue| queue.today.succeeded)) } }
            div { dt { "Failed today" } dd data-total="failed" { (sum(|queue| queue.today.failed)) } }
        }
    }
}

/// What an operator should look at first.
fn attention(view: &View, seen: &Seen, blame: &HashMap<Name, String>) -> Markup {
    let concerns = &seen.concerns;
    html! {
        // There although it is empty, so that it can come later.
        section.attention id="attention" data-fresh="attention" data-version=(seen.version_of_attention()) aria-label="Needs attention" hidden[concerns.is_empty()] {
            @if !concerns.is_empty() {
                h2 { "Needs attention" }
                ul { @for concern in concerns.iter().take(CONCERNS) {
                    li {
                        @match concern.queue() {
                            Some((queue, state)) => {
                                a href=(view.links.state(queue, state)) { (queue) } ": "
                                (concern.text(view.now, blame.get(queue).map(String::as_str)))
                            },
                            None => {
                                (concern.text(view.now, None)) " "
                                a href=(view.links.page("servers")) { "Servers" }
                            },
                        }
                    }
                } }
                @if let Some(others @ 1..) = concerns.len().checked_sub(CONCERNS) { p.note { "And " (others) " more." } }
            }
        }
    }
}

fn table(view: &View, asked: &Asked, queues: &[&QueueInfo]) -> Markup {
    let name = encoded(&asked.name);
    let sorted = |key: &str| format!("?sort={key}&name={name}");
    let next = asked.after.saturating_add(PAGE);
    html! {
        div.scroll { table {
            thead { tr {
                th scope="col" { a href=(sorted("")) { "Queue" } }
                @for (title, key, _) in COLUMNS {
                    th.number scope="col" aria-sort=[(key == asked.sort).then_some("descending")] { a href=(sorted(key)) { (title) } }
                }
            } }
            tbody { @for queue in queues.iter().skip(asked.after).take(PAGE) { (row(view, queue)) } }
        } }
        @if queues.len() > next { p { a.next href=(format!("{}&after={next}", sorted(&asked.sort))) { "More" } } }
        @if queues.is_empty() { p.empty { "No queue's name has " code { (asked.name) } " in it." } }
    }
}

fn row(view: &View, queue: &QueueInfo) -> Markup {
    let page = view.links.queue(&queue.name);
    html! {
        tr data-queue=(queue.name) {
            th scope="row" {
                a href=(page) { (queue.name) }
                @if queue.stats.paused { " " span.paused { "paused" } }
            }
            @for (_, state, figure) in &COLUMNS[..STATES] {
                // A link each, even for nothing, would be most of the page.
                td.number data-figure=(state) data-link {
                    @match figure(queue) {
                        0 => "0",
                        count => { a href=(format!("{page}?state={state}")) { (show::number(count)) } },
                    }
                }
            }
            td.number data-figure="latency" { (show::wait(queue.stats.latency)) }
            td.number data-figure="succeeded" { (show::number(queue.today.succeeded)) }
            td.number data-figure="failed" { (show::number(queue.today.failed)) }
            td.number { @if let Some(bytes) = queue.memory { (show::bytes(bytes)) } }
        }
    }
}
