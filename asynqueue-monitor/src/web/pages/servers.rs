//! The servers, and what each of them runs.

use asynqueue_core::broker::ServerInfo;
use axum::extract::Query;
use maud::{Markup, html};
use serde::Deserialize;

use super::{Failed, View};
use crate::web::{live::version_of_servers, show};

/// How many servers a page shows, and how many of the tasks that each runs.
const PAGE: usize = 50;
const RUNNING: usize = 25;

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    /// How many servers are before those to show.
    #[serde(default)]
    after: usize,
}

pub(crate) async fn show(view: View, Query(asked): Query<Asked>) -> Result<Markup, Failed> {
    let seen = view.shared.live.now().await?;
    let servers = &seen.servers;
    let next = asked.after.saturating_add(PAGE);
    Ok(view.page("Servers", html! { div id="servers" data-fresh="servers" data-version=(version_of_servers(servers, view.now)) {
        @if servers.is_empty() { p.empty { "No server is heard of. One that runs tells of itself every five seconds." } }
        @for server in servers.iter().skip(asked.after).take(PAGE) { (section(&view, server, asked.after)) }
        @if servers.len() > next { p { a.next href=(format!("?after={next}")) { "More" } } }
    } }))
}

fn section(view: &View, server: &ServerInfo, after: usize) -> Markup {
    html! {
        section {
            h2 {
                (server.name)
                @if server.stopping { " " span.paused { "stopping" } }
                @if server.quiet { " " span.paused { "quiet" } }
                @if server.is_lost(view.now) { " " span.kind { "lost" } }
            }
            @if view.may_change() && !server.stopping && !server.is_lost(view.now) { (button(view, server, after)) }
            dl.facts {
                dt { "Host" } dd { (server.host) ", process " (server.pid) }
                dt { "Started" } dd { (view.time(server.started)) }
                dt { "Heard of" } dd { (view.time(server.seen)) }
                dt { "Queues" } dd {
                    @for (queue, weight) in &server.queues {
                        a href=(view.links.queue(queue)) { (queue) } " × " (weight) " "
                    }
                    @if server.strict { "strictly by weight" }
                }
                dt { "Events" } dd { (server.events.iter().map(|event| event.as_str()).collect::<Vec<_>>().join(", ")) }
                dt { "Running" } dd { (server.busy) " of " (server.concurrency) }
                dt { "Ended" } dd { (show::number(server.finished)) " attempts" }
                @if server.abandoned > 0 { dt { "Abandoned" } dd { (server.abandoned) " handlers that block their thread" } }
            }
            @if !server.running.is_empty() {
                div.scroll { table {
                    thead { tr {
                        th scope="col" { "Task" } th scope="col" { "Event" } th scope="col" { "Attempt" }
                        th scope="col" { "Began" } th scope="col" { "Given up" }
                    } }
                    tbody { @for running in server.running.iter().take(RUNNING) {
                        tr {
                            td { a.id href=(view.links.task(&running.task)) { (running.task) } }
                            td { (running.event) }
                            td.number { (running.attempt) }
                            td { (view.time(running.started)) }
                            td { (view.time(running.deadline)) }
                        }
                    } }
                } }
                @if let Some(others @ 1..) = server.busy.checked_sub(RUNNING) { p.note { "And " (others) " more, which began later." } }
            }
        }
    }
}

fn button(view: &View, server: &ServerInfo, after: usize) -> Markup {
    html! {
        form.actions method="post" action=(view.links.page("servers")) {
            input type="hidden" name="server" value=(server.name);
            input type="hidden" name="after" value=(after);
            @if server.quiet { button name="do" value="resume" { "Resume" } }
            @else { button name="do" value="quiet" { "Stop leasing" } }
        }
    }
}
