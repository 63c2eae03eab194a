//! Tasks that wait for one another, to become one.

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
