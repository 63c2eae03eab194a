//! The servers, and the tasks that each of them runs.

use asynqueue_core::{
    broker::{LimitInfo, ServerInfo},
    inspector::{ActionKind, ActionTarget},
};
use axum::extract::Query;
use maud::{Markup, html};
use serde::Deserialize;

use super::button;
use crate::web::{
    request::{Failed, View},
    show,
    version::version_of_servers,
};

/// The maximum number of servers on a page, and of running tasks listed per server.
const PAGE: usize = 50;
const RUNNING: usize = 25;

/// A server with more queues or events than this shows only their number at first.
const UNFOLDED: usize = 30;

/// The maximum number of events that a limit names.
const EVENTS: usize = 5;

#[derive(Debug, Deserialize)]
pub(crate) struct Params {
    /// How many servers to skip.
    #[serde(default)]
    after: usize,
}

pub(crate) async fn show(view: View, Query(params): Query<Params>) -> Result<Markup, Failed> {
    let snapshot = view.shared.live.now().await?;
    let servers = &snapshot.servers;
    let next = params.after.saturating_add(PAGE);
    Ok(view.page("Servers", html! { div id="servers" data-fresh="servers" data-version=(version_of_servers(servers, view.now)) {
        @if servers.is_empty() { p.empty { "No servers. A running server sends a heartbeat every 5 seconds." } }
        @for server in servers.iter().skip(params.after).take(PAGE) { (section(&view, server, params.after)) }
        @if servers.len() > next { p { a.next href=(format!("?after={next}")) { "Next page" } } }
    } }))
}

/// A list that is folded if it is long.
fn folded(names: usize, what: &str, list: Markup) -> Markup {
    match names {
        ..=UNFOLDED => list,
        names => html! { details { summary { (show::number(names as u64)) " " (what) } (list) } },
    }
}

fn section(view: &View, server: &ServerInfo, after: usize) -> Markup {
    let is_lost = server.is_lost(view.now);
    html! {
        section {
            h2 {
                (server.name)
                @if server.stopping { " " span.paused { "stopping" } }
                @if server.quiet { " " span.paused { "quiet" } }
                @if is_lost { " " span.kind { "lost" } }
            }
            @if view.may_change() && !server.stopping && !is_lost { (form(view, server, after)) }
            dl.facts {
                dt { "Host" } dd { (server.host) ", PID " (server.pid) }
                @if let Some(version) = &server.version { dt { "Version" } dd { (version) } }
                dt { "Started" } dd { (view.time_of(server.started, !is_lost)) }
                dt { "Last heartbeat" } dd { (view.time(server.seen)) }
                dt { "Queues and weights" } dd {
                    (folded(server.queues.len(), "queues", html! {
                        @for (queue, weight) in &server.queues {
                            a href=(view.links.queue(queue)) { (queue) } " ×\u{a0}" (weight) " "
                        }
                    }))
                    @if server.strict { "(strict priority)" }
                }
                dt { "Events" } dd { (folded(server.events.len(), "events", html! {
                    @for (place, event) in server.events.iter().enumerate() { @if place > 0 { ", " } (event) }
                })) }
                dt { "Running" } dd { (show::number(server.busy as u64)) " of " (show::number(server.concurrency as u64)) }
                (limits(view, server))
                dt { "Finished" } dd { (show::number(server.finished)) @if server.finished == 1 { " attempt" } @else { " attempts" } }
                @if server.abandoned > 0 { dt { "Abandoned" } dd { (show::number(server.abandoned as u64)) " handlers blocking their threads past their timeout" } }
            }
            @if !server.running.is_empty() {
                div.scroll { table {
                    thead { tr {
                        th scope="col" { "Task" } th scope="col" { "Event" } th.number scope="col" { "Attempt" }
                        th scope="col" { "Started" } th scope="col" { "Deadline" }
                    } }
                    tbody { @for running in server.running.iter().take(RUNNING) {
                        tr {
                            td { a.id href=(view.links.task(&running.task)) { (running.task) } }
                            td { (running.event) }
                            td.number { (show::number(running.attempt.into())) }
                            td { (view.time_of(running.started, !is_lost)) }
                            td { (view.time_of(running.deadline, !is_lost)) }
                        }
                    } }
                } }
                @if let Some(others @ 1..) = server.busy.checked_sub(RUNNING) { p.note { (show::number(others as u64)) " more not shown; they started later." } }
            }
        }
    }
}

/// The limits of its queues and handlers.
fn limits(view: &View, server: &ServerInfo) -> Markup {
    let of_queues = server.queue_use.iter();
    let of_queues: Vec<_> = of_queues
        .filter_map(|queue| Some((queue, queue.max?)))
        .collect();
    html! {
        @if !of_queues.is_empty() || !server.limits.is_empty() {
            dt { "Limits" } dd { ul.ticks {
                @for (queue, max) in of_queues {
                    li { "queue " a href=(view.links.queue(&queue.queue)) { (queue.queue) } ": "
                        (show::number(queue.running)) " of " (show::number(max)) " running" }
                }
                @for limit in &server.limits { li { (limit_in_words(limit)) } }
            } }
        }
    }
}

fn limit_in_words(limit: &LimitInfo) -> Markup {
    html! {
        @for (place, event) in limit.events.iter().take(EVENTS).enumerate() { @if place > 0 { ", " } (event) }
        @if let Some(more @ 1..) = limit.events.len().checked_sub(EVENTS) { " and " (more) " more" }
        ": "
        @match limit.period {
            Some(period) => { (show::number(limit.max)) " attempts in " (show::duration(period)) },
            None => { (show::number(limit.used)) " of " (show::number(limit.max)) " concurrent attempts" },
        }
        @if limit.waiting > 0 { ", about " (show::number(limit.waiting)) " tasks waiting" }
    }
}

fn form(view: &View, server: &ServerInfo, after: usize) -> Markup {
    html! {
        form.actions method="post" action=(view.links.page("servers")) {
            input type="hidden" name="server" value=(server.name);
            input type="hidden" name="after" value=(after);
            (button(if server.quiet { ActionKind::Resume } else { ActionKind::Quiet }, ActionTarget::Server))
        }
    }
}
