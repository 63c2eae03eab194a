//! All queues at a glance, what needs attention first.

use std::{cmp::Reverse, collections::HashMap, time::Duration};

use asynqueue_core::{Name, ServerInfo, TaskState, inspector::QueueInfo};
use axum::extract::Query;
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    Failed, View,
    charts::{of_day, of_now},
    notice,
};
use crate::web::{
    links::encoded,
    live::{SLOW, Seen, is_failing, version_of_queues},
    show,
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

/// A server that was not heard of for longer than this needs attention; it tells of itself every five seconds.
const SILENT: Duration = Duration::from_secs(15);

pub(crate) async fn show(view: View, Query(asked): Query<Asked>) -> Result<Markup, Failed> {
    let seen = view.shared.live.now().await?;
    let slow = view.shared.live.slow(&seen.queues).await?;
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
            (notice(asked.did.as_deref()))
            (totals(&seen))
            (attention(&view, &seen, &slow.blame))
            div.columns { (of_day(&view, slow.hours.iter())) (of_now()) }
            @if seen.queues.len() > 10 { (search(&asked)) }
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

fn totals(seen: &Seen) -> Markup {
    let sum = |figure: fn(&QueueInfo) -> u64| show::number(seen.queues.iter().map(figure).sum());
    let busy: usize = seen.servers.iter().map(|server| server.busy).sum();
    let slots: usize = seen.servers.iter().map(|server| server.concurrency).sum();
    html! {
        dl.figures {
            div { dt { "Pending" } dd data-total="pending" { (sum(|queue| queue.stats.count(TaskState::Pending))) } }
            div { dt { "Running" } dd { span data-total="busy" { (busy) } " of " span data-total="slots" { (slots) } } }
            div { dt { "Servers" } dd data-total="servers" { (seen.servers.len()) } }
            div { dt { "Done today" } dd data-total="succeeded" { (sum(|queue| queue.today.succeeded)) } }
            div { dt { "Failed today" } dd data-total="failed" { (sum(|queue| queue.today.failed)) } }
        }
    }
}

fn search(asked: &Asked) -> Markup {
    html! {
        form.filter {
            @if !asked.sort.is_empty() { input type="hidden" name="sort" value=(asked.sort); }
            input type="search" name="name" value=(asked.name) placeholder="A part of a queue's name" aria-label="Show queues by name";
            button { "Show" }
        }
    }
}

/// What an operator should look at first.
fn attention(view: &View, seen: &Seen, blame: &HashMap<Name, String>) -> Markup {
    let queues = &seen.queues;
    let waits = |queue: &QueueInfo| queue.stats.count(TaskState::Pending) > 0;
    let nobody = seen.servers.is_empty() && queues.iter().any(waits);
    let slow = |queue: &&QueueInfo| queue.stats.latency > SLOW && !queue.stats.paused;
    let slow: Vec<_> = queues.iter().filter(slow).collect();
    let failing: Vec<_> = queues.iter().filter(|queue| is_failing(queue)).collect();
    let silent = |server: &&ServerInfo| view.now.since(server.seen) > SILENT;
    let silent: Vec<_> = seen.servers.iter().filter(silent).collect();
    let lists = [slow.len(), failing.len(), silent.len(), seen.growing.len()];
    let is_needed = nobody || lists.iter().any(|length| *length > 0);
    html! {
        // There although it is empty, so that it can come later.
        section.attention id="attention" data-fresh="attention" data-version=(seen.version_of_attention()) aria-label="Needs attention" hidden[!is_needed] {
            @if is_needed {
                h2 { "Needs attention" }
                ul {
                    @if nobody { li { "Tasks wait, and no server is there to run them." } }
                    @for server in silent {
                        li { a href=(view.links.page("servers")) { (server.name) } ": this server was heard of " (view.time(server.seen)) "; its tasks go to others when their leases end." }
                    }
                    @for queue in slow {
                        li {
                            a href=(view.links.state(&queue.name, TaskState::Pending)) { (queue.name) }
                            ": the next task has waited for " (show::duration(queue.stats.latency)) "."
                        }
                    }
                    @for queue in &seen.growing {
                        li { a href=(view.links.state(queue, TaskState::Pending)) { (queue) } ": more and more tasks wait, for a minute now." }
                    }
                    @for queue in failing {
                        li {
                            a href=(view.links.state(&queue.name, TaskState::Retry)) { (queue.name) }
                            ": " (show::number(queue.today.failed)) " of "
                            (show::number(queue.today.succeeded + queue.today.failed)) " attempts failed today"
                            @if let Some(most) = blame.get(&queue.name) { ", most of them lately by " code { (show::cut(most)) } }
                            "."
                        }
                    }
                }
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
