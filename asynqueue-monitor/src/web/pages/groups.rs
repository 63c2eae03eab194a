//! Groups of tasks that wait to be aggregated into one task.

use asynqueue_core::{broker::GroupInfo, task::TaskState};
use maud::{Markup, html};

use crate::web::{
    reading::groups::{GROUPS, MOST, is_cut, read},
    request::{Failed, View},
    show,
    version::version_of_groups,
};

pub(crate) async fn show(view: View) -> Result<Markup, Failed> {
    let live = &view.shared.live;
    let snapshot = live.now().await?;
    let groups = live
        .read(&live.groups, (), read(&view.inspector, &snapshot.queues))
        .await?;
    let version = version_of_groups(&snapshot.queues);
    Ok(view.page("Groups", html! { div id="groups" data-fresh="groups" data-version=(version) {
        @if groups.is_empty() {
            p.empty { "No tasks are waiting in groups." }
        } @else {
            div.scroll { table {
                thead { tr {
                    th scope="col" { "Group" } th scope="col" { "Queue" } th scope="col" { "Event" }
                    th.number scope="col" { "Tasks" } th scope="col" { "Oldest" } th scope="col" { "Due" }
                } }
                tbody { @for group in groups.iter().take(MOST) { (row(&view, group)) } }
            } }
        }
        @if is_cut(&groups) { p.note { "Only the first " (show::number(GROUPS as u64)) " groups due in each queue are shown, at most " (show::number(MOST as u64)) " in total." } }
    } }))
}

fn row(view: &View, group: &GroupInfo) -> Markup {
    let tasks = view.links.state(&group.queue, TaskState::Aggregating);
    html! {
        tr {
            th scope="row" {
                @if group.name.is_empty() { "(unnamed)" } @else { (group.name) }
                @if group.tries > 0 { " · failed " (show::number(group.tries.into())) " ×" }
            }
            td { a href=(tasks) { (group.queue) } }
            td { (group.event) }
            td.number { (show::number(group.size)) }
            td { (view.time(group.oldest)) }
            td { (view.time(group.due)) }
        }
    }
}
