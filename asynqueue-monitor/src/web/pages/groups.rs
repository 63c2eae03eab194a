//! Tasks that wait for one another, to become one.

use asynqueue_core::{GroupInfo, TaskState, inspector::QueueInfo};
use futures_util::{StreamExt, TryStreamExt, stream};
use maud::{Markup, html};

use super::{AT_A_TIME, Failed, View};
use crate::web::show;

/// How many groups of each queue to show.
const GROUPS: usize = 100;

pub(crate) async fn show(view: View) -> Result<Markup, Failed> {
    let seen = view.shared.live.now().await?;
    let has_groups = |queue: &&QueueInfo| queue.stats.count(TaskState::Aggregating) > 0;
    let queues = seen.queues.iter().filter(has_groups);
    let queues: Vec<_> = queues.map(|queue| queue.name.clone()).collect();
    let inspector = &view.inspector;
    let asked = queues.into_iter();
    let asked = asked.map(async |queue| inspector.groups(&queue, GROUPS).await);
    let groups = stream::iter(asked).buffered(AT_A_TIME);
    let groups: Vec<Vec<GroupInfo>> = groups.try_collect().await?;
    let cut = groups.iter().any(|groups| groups.len() == GROUPS);
    let groups: Vec<_> = groups.into_iter().flatten().collect();
    Ok(view.page("Groups", html! {
        @if groups.is_empty() {
            p.empty { "No task waits in a group." }
        } @else {
            div.scroll { table {
                thead { tr {
                    th scope="col" { "Group" } th scope="col" { "Queue" } th scope="col" { "Event" }
                    th.number scope="col" { "Tasks" } th scope="col" { "Oldest" } th scope="col" { "Due" }
                } }
                tbody { @for group in &groups { (row(&view, group)) } }
            } }
        }
        @if cut { p.note { "Of each queue, no more than " (GROUPS) " groups are shown: those that are due first." } }
    }))
}

fn row(view: &View, group: &GroupInfo) -> Markup {
    let tasks = view.links.state(&group.queue, TaskState::Aggregating);
    html! {
        tr {
            th scope="row" { @if group.name.is_empty() { "of those without a name" } @else { (group.name) } }
            td { a href=(tasks) { (group.queue) } }
            td { (group.event) }
            td.number { (show::number(group.size)) }
            td { (view.time(group.oldest)) }
            td { (view.time(group.due)) }
        }
    }
}
