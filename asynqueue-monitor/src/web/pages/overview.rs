//! All queues at a glance, what needs attention first.

use std::time::Duration;

use asynqueue_core::{TaskState, inspector::QueueInfo};
use axum::extract::Query;
use maud::{Markup, html};
use serde::Deserialize;

use super::{Failed, View, notice};
use crate::web::show;

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    did: Option<String>,
}

/// The states with a column each.
const STATES: [TaskState; 6] = [
    TaskState::Pending,
    TaskState::Active,
    TaskState::Scheduled,
    TaskState::Retry,
    TaskState::Archived,
    TaskState::Completed,
];

/// A queue whose next task has waited for longer than this needs attention.
const SLOW: Duration = Duration::from_secs(300);

pub(crate) async fn show(view: View, Query(asked): Query<Asked>) -> Result<Markup, Failed> {
    let (queues, servers) = tokio::join!(view.inspector.queues(), view.inspector.servers());
    let (queues, servers): (_, Vec<_>) = (queues?, servers?);
    let busy: usize = servers.iter().map(|server| server.busy).sum();
    let slots: usize = servers.iter().map(|server| server.concurrency).sum();
    let wait = queues
        .iter()
        .map(|queue| queue.stats.count(TaskState::Pending))
        .sum();
    Ok(view.page("Queues", html! {
        (notice(asked.did.as_deref()))
        dl.figures {
            div { dt { "Pending" } dd { (show::number(wait)) } }
            div { dt { "Running" } dd { span data-servers="busy" { (busy) } " of " span data-servers="slots" { (slots) } } }
            div { dt { "Servers" } dd { span data-servers="count" { (servers.len()) } } }
            div { dt { "Done today" } dd { (show::number(queues.iter().map(|queue| queue.today.succeeded).sum())) } }
            div { dt { "Failed today" } dd { (show::number(queues.iter().map(|queue| queue.today.failed).sum())) } }
        }
        (attention(&view, &queues, servers.is_empty()))
        @if queues.is_empty() {
            p.empty { "No queue has had a task yet." }
        } @else {
            (table(&view, &queues))
        }
    }))
}

/// What an operator should look at first.
fn attention(view: &View, queues: &[QueueInfo], is_alone: bool) -> Markup {
    let waits = queues
        .iter()
        .any(|queue| queue.stats.count(TaskState::Pending) > 0);
    let slow = |queue: &&QueueInfo| queue.stats.latency > SLOW && !queue.stats.paused;
    let failing = |queue: &&QueueInfo| {
        let ended = queue.today.succeeded + queue.today.failed;
        ended >= 20 && queue.today.failed * 20 > ended
    };
    let slow: Vec<_> = queues.iter().filter(slow).collect();
    let failing: Vec<_> = queues.iter().filter(failing).collect();
    let nobody = waits && is_alone;
    html! {
        @if nobody || !slow.is_empty() || !failing.is_empty() {
            section.attention aria-label="Needs attention" {
                h2 { "Needs attention" }
                ul {
                    @if nobody { li { "Tasks wait, and no server is there to run them." } }
                    @for queue in slow {
                        li {
                            a href=(view.links.state(&queue.name, TaskState::Pending)) { (queue.name) }
                            ": the next task has waited for " (show::duration(queue.stats.latency)) "."
                        }
                    }
                    @for queue in failing {
                        li {
                            a href=(view.links.state(&queue.name, TaskState::Retry)) { (queue.name) }
                            ": " (show::number(queue.today.failed)) " of "
                            (show::number(queue.today.succeeded + queue.today.failed)) " attempts failed today."
                        }
                    }
                }
            }
        }
    }
}

fn table(view: &View, queues: &[QueueInfo]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr {
                th scope="col" { "Queue" }
                @for state in STATES { th.number scope="col" { (state.as_str()) } }
                th.number scope="col" { "oldest" }
                th.number scope="col" { "done today" }
                th.number scope="col" { "failed today" }
                th.number scope="col" { "memory" }
            } }
            tbody { @for queue in queues {
                tr data-queue=(queue.name) {
                    th scope="row" {
                        a href=(view.links.queue(&queue.name)) { (queue.name) }
                        @if queue.stats.paused { " " span.paused { "paused" } }
                    }
                    @for state in STATES {
                        td.number { a data-figure=(state.as_str()) href=(view.links.state(&queue.name, state)) {
                            (show::number(queue.stats.count(state)))
                        } }
                    }
                    td.number data-figure="latency" { (show::duration(queue.stats.latency)) }
                    td.number data-figure="succeeded" { (show::number(queue.today.succeeded)) }
                    td.number data-figure="failed" { (show::number(queue.today.failed)) }
                    td.number { @if let Some(bytes) = queue.memory { (show::bytes(bytes)) } }
                }
            } }
        } }
    }
}
