//! The servers, and what each of them runs.

use asynqueue_core::ServerInfo;
use maud::{Markup, html};

use super::{Failed, View};
use crate::web::{live::version, show};

pub(crate) async fn show(view: View) -> Result<Markup, Failed> {
    let seen = view.shared.live.now().await?;
    let servers = &seen.servers;
    Ok(view.page("Servers", html! { div id="servers" data-fresh="servers" data-version=(version(servers)) {
        @if servers.is_empty() { p.empty { "No server is heard of. One that runs tells of itself every five seconds." } }
        @for server in servers { (section(&view, server)) }
    } }))
}

fn section(view: &View, server: &ServerInfo) -> Markup {
    html! {
        section {
            h2 { (server.name) @if server.stopping { " " span.paused { "stopping" } } }
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
                    tbody { @for running in &server.running {
                        tr {
                            td { a.id href=(view.links.task(&running.task)) { (running.task) } }
                            td { (running.event) }
                            td.number { (running.attempt) }
                            td { (view.time(running.started)) }
                            td { (view.time(running.deadline)) }
                        }
                    } }
                } }
            }
        }
    }
}
