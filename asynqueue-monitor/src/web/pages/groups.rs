//! Tasks that wait for one another, to become one.

use asynqueue_core::{
    broker::{BrokerError, GroupInfo},
    inspector::{Inspector, QueueInfo},
    task::TaskState,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use maud::{Markup, html};

use super::{AT_A_TIME, Failed, View};
use crate::web::{live::version_of_groups, show};

/// How many groups of each queue to show.
const GROUPS: usize = 100;

/// How many groups to show in all.
const MOST: usize = 1_000;

pub(crate) async fn show(view: View) -> Result<Markup, Failed> {
    let live = &view.shared.live;
    let seen = live.now().await?;
    let groups = live
        .read(&live.groups, (), read(&view.inspector, &seen.queues))
        .await?;
    let version = version_of_groups(&seen.queues);
    Ok(view.page("Groups", html! { div id="groups" data-fresh="groups" data-version=(version) {
        @if groups.is_empty() {
            p.empty { "No task waits in a group." }
        } @else {
            div.scroll { table {
                thead { tr {
                    th scope="col" { "Group" } th scope="col" { "Queue" } th scope="col" { "Event" }
                    th.number scope="col" { "Tasks" } th scope="col" { "Oldest" } th scope="col" { "Due" }
                } }
                tbody { @for group in groups.iter().take(MOST) { (row(&view, group)) } }
            } }
        }
        @if is_cut(&groups) { p.note { "No more than " (GROUPS) " groups of each queue and " (show::number(MOST as u64)) " in all are shown: those that are due first." } }
    } }))
}

/// The groups of all queues that have some, those that are due first in each.
async fn read(inspector: &Inspector, queues: &[QueueInfo]) -> Result<Vec<GroupInfo>, BrokerError> {
    let has_groups = |queue: &&QueueInfo| queue.stats.count(TaskState::Aggregating) > 0;
    let queues = queues
        .iter()
        .filter(has_groups)
        .map(|queue| queue.name.clone());
    let queues: Vec<_> = queues.collect();
    let asked = queues.into_iter();
    let asked = asked.map(async |queue| inspector.groups(&queue, GROUPS).await);
    let groups: Vec<Vec<_>> = stream::iter(asked)
        .buffered(AT_A_TIME)
        .try_collect()
        .await?;
    Ok(groups.into_iter().flatten().collect())
}

/// Whether there may be more than are shown.
fn is_cut(groups: &[GroupInfo]) -> bool {
    let mut of_queues = groups.chunk_by(|a, b| a.queue == b.queue);
    groups.len() > MOST || of_queues.any(|groups| groups.len() >= GROUPS)
}

fn row(view: &View, group: &GroupInfo) -> Markup {
    let tasks = view.links.state(&group.queue, TaskState::Aggregating);
    html! {
        tr {
            th scope="row" {
                @if group.name.is_empty() { "of those without a name" } @else { (group.name) }
                @if group.tries > 0 { " · failed " (group.tries) "×" }
            }
            td { a href=(tasks) { (group.queue) } }
            td { (group.event) }
            td.number { (show::number(group.size)) }
            td { (view.time(group.oldest)) }
            td { (view.time(group.due)) }
        }
    }
}
