//! The overview of all queues, with problems first.

use std::cmp::Reverse;

use asynqueue_core::inspector::QueueInfo;
use axum::extract::Query;
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    charts::{of_day, of_now},
    search,
};
use crate::web::{
    attention::Place,
    figures::{COLUMNS, STATES, TOTALS, lost, total},
    links::encoded,
    live::{Fleet, Snapshot},
    request::{Failed, View},
    show,
    version::version_of_queues,
};

#[derive(Debug, Deserialize)]
pub(crate) struct Params {
    did: Option<String>,
    #[serde(default)]
    sort: String,
    /// Shows only queues whose name contains this.
    #[serde(default)]
    name: String,
    /// How many queues to skip.
    #[serde(default)]
    after: usize,
}

/// The number of queues on a page.
const PAGE: usize = 100;

/// The maximum number of listed problems.
const CONCERNS: usize = 20;

pub(crate) async fn show(view: View, Query(params): Query<Params>) -> Result<Markup, Failed> {
    let snapshot = view.shared.live.now().await?;
    let slow = view.shared.live.slow(&snapshot).await?;
    let mut queues: Vec<_> = snapshot
        .queues
        .iter()
        .filter(|queue| queue.name.contains(&params.name))
        .collect();
    if let Some((_, _, figure)) = COLUMNS.iter().find(|(_, key, _)| *key == params.sort) {
        queues.sort_by_key(|queue| Reverse(figure(queue)));
    }
    Ok(view.page(
        "Queues",
        html! {
            (view.notice(params.did.as_deref()))
            (totals(&view, &snapshot))
            (attention(&view, &snapshot))
            div.columns {
                (of_day(&view, None, slow.hours.iter()))
                (of_now())
            }
            @if snapshot.queues.len() > 10 { (search("queue", &params.name, &[("sort", &params.sort)])) }
            div id="queues" data-fresh="queues" data-version=(version_of_queues(&snapshot.queues)) {
                @if snapshot.queues.is_empty() {
                    p.empty { "No queues yet. A queue appears with its first task." }
                } @else {
                    (table(&view, &params, &queues))
                }
            }
        },
    ))
}

fn totals(view: &View, snapshot: &Snapshot) -> Markup {
    let fleet = Fleet::of(&snapshot.servers, view.now);
    let number = |count: usize| show::number(count as u64);
    html! {
        dl.figures {
            div { dt { "Servers" } dd data-total="servers" { (number(fleet.servers)) } }
            div { dt { "Running" } dd { span data-total="busy" { (number(fleet.busy)) } " of " span data-total="slots" { (number(fleet.slots)) } } }
            @for (title, key, figure) in TOTALS {
                div { dt { (title) } dd {
                    span data-total=(key) { (show::number(total(figure, &snapshot.queues))) }
                    @if key == "failed" { span data-total="lost" { (lost(total(|queue| queue.today.lost, &snapshot.queues))) } }
                } }
            }
        }
    }
}

/// The list of problems.
fn attention(view: &View, snapshot: &Snapshot) -> Markup {
    let concerns = &snapshot.concerns;
    html! {
        // Rendered even if it is empty, so that the script can fill it later.
        section.attention id="attention" data-fresh="attention" data-version=(snapshot.version_of_attention()) aria-label="Needs attention" hidden[concerns.is_empty()] {
            @if !concerns.is_empty() {
                h2 { "Needs attention" }
                ul { @for concern in concerns.iter().take(CONCERNS) {
                    li {
                        a href=(concern.place.url(&view.links)) { (concern.title()) } ": " (concern.text)
                        @if let Some(cause) = concern.cause {
                            " " a href=(Place::Cause(cause).url(&view.links)) { "Cause and retry" }
                        }
                    }
                } }
                @if let Some(others @ 1..) = concerns.len().checked_sub(CONCERNS) { p.note { (show::number(others as u64)) " more not shown." } }
            }
        }
    }
}

fn table(view: &View, params: &Params, queues: &[&QueueInfo]) -> Markup {
    let name = encoded(&params.name);
    let sorted = |key: &str| format!("?sort={key}&name={name}");
    let next = params.after.saturating_add(PAGE);
    html! {
        div.scroll { table {
            thead { tr {
                th scope="col" { a href=(sorted("")) { "Queue" } }
                @for (title, key, _) in COLUMNS {
                    th.number scope="col" aria-sort=[(key == params.sort).then_some("descending")] { a href=(sorted(key)) { (title) } }
                }
            } }
            tbody { @for queue in queues.iter().skip(params.after).take(PAGE) { (row(view, queue)) } }
        } }
        @if queues.len() > next { p { a.next href=(format!("{}&after={next}", sorted(&params.sort))) { "Next page" } } }
        @if queues.is_empty() { p.empty { "No queue name contains " code { (params.name) } "." } }
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
                // Links for zeros would make up most of the page.
                td.number data-figure=(state) data-link {
                    @match figure(queue) {
                        0 => "0",
                        count => { a href=(format!("{page}?state={state}")) { (show::number(count)) } },
                    }
                }
            }
            td.number data-figure="latency" { (show::wait(queue.stats.latency)) }
            td.number data-figure="succeeded" { (show::number(queue.today.succeeded)) }
            td.number { span data-figure="failed" { (show::number(queue.today.failed)) } span data-figure="lost" { (lost(queue.today.lost)) } }
            td.number { @if let Some(bytes) = queue.memory { (show::bytes(bytes)) } }
        }
    }
}
