//! The tasks of a queue in one state, and what can be done with them.

use asynqueue_core::{broker::TaskInfo, task::TaskState};
use maud::{Markup, html};

use super::contents::{Contents, Order, SORTED};
use crate::web::{links::encoded, live::version_of_tasks, pages::View, show};

pub(super) fn list(view: &View, contents: &Contents, filter: &str, order: Order) -> Markup {
    let Contents {
        info,
        state,
        listing,
        ..
    } = contents;
    let next = listing.next.as_ref().map(|cursor| {
        format!(
            "{}&filter={}&sort={}&after={}",
            view.links.state(&info.name, *state),
            encoded(filter),
            order.name(),
            encoded(&cursor.0)
        )
    });
    html! {
        div id="tasks" data-fresh="tasks" data-version=(version_of_tasks(info)) data-queue=(info.name) {
            @if listing.tasks.is_empty() {
                p.empty {
                    @if next.is_some() { "None of the " (listing.scanned) " tasks looked at match; there are more." }
                    @else if filter.is_empty() { "No task is " (state.as_str()) "." }
                    @else { "No task matches." }
                }
            } @else if !view.may_change() {
                div.scroll { (table(view, *state, &listing.tasks)) }
            } @else {
                form.tasks method="post" action=(format!("{}/tasks", view.links.queue(&info.name))) {
                    (no_default())
                    input type="hidden" name="state" value=(state.as_str());
                    input type="hidden" name="filter" value=(filter);
                    div.scroll { (table(view, *state, &listing.tasks)) }
                    (task_actions(contents))
                }
            }
            @if order != Order::Queue && listing.scanned >= SORTED {
                p.note { "The first " (show::number(listing.scanned as u64)) " tasks of the queue are sorted; those behind them are not among these." }
            }
            @if let Some(next) = next { p { a.next href=(next) { "More" } } }
        }
    }
}

fn table(view: &View, state: TaskState, tasks: &[TaskInfo]) -> Markup {
    let failed = matches!(state, TaskState::Retry | TaskState::Archived);
    html! {
        table.tasks {
            thead { tr {
                @if view.may_change() { th { input type="checkbox" data-all aria-label="Choose all on this page"; } }
                th scope="col" { "Task" } th scope="col" { "Event" } th scope="col" { "Attempts" }
                th scope="col" { "Enqueued" }
                th scope="col" { (when_title(state)) }
                th scope="col" { @if failed { "Failure" } @else { "Payload" } }
            } }
            tbody { @for task in tasks {
                @let envelope = &task.envelope;
                tr {
                    @if view.may_change() {
                        td { input type="checkbox" name="id" value=(envelope.id) aria-label=(format!("Choose {}", envelope.id)); }
                    }
                    td { a.id href=(view.links.task(&envelope.task_ref())) { (envelope.id) } }
                    td { (envelope.event) }
                    td.number data-label="Attempts" { (envelope.attempts) }
                    td data-label="Enqueued" { (view.time(envelope.enqueued_at)) }
                    td data-label=(when_title(state)) { (when(view, task)) }
                    td.payload {
                        @match envelope.last_failure().filter(|_| failed) {
                            Some(failure) => { span.kind { (failure.kind) } " " (show::cut(&failure.message)) },
                            None => { code { (show::cut(&view.inspector.payload(task).to_string())) } },
                        }
                    }
                }
            } }
        }
    }
}

fn when_title(state: TaskState) -> &'static str {
    match state {
        TaskState::Scheduled | TaskState::Retry => "Due",
        TaskState::Active => "Worker",
        TaskState::Completed => "Kept until",
        TaskState::Archived => "Archived",
        _ => "",
    }
}

fn when(view: &View, task: &TaskInfo) -> Markup {
    html! {
        @if let Some(lease) = &task.lease { (lease.worker) }
        @else if let Some(at) = task.at { (view.time(at)) }
    }
}

/// What can be done with tasks of a state: the name of the action, what the button says, and whether it destroys.
pub(in crate::web) fn actions_of(
    state: TaskState,
) -> &'static [(&'static str, &'static str, bool)] {
    match state {
        TaskState::Scheduled | TaskState::Aggregating => &[
            ("run", "Run now", false),
            ("archive", "Archive", false),
            ("delete", "Delete", true),
        ],
        TaskState::Pending => &[("archive", "Archive", false), ("delete", "Delete", true)],
        TaskState::Active => &[("cancel", "Cancel", true)],
        TaskState::Retry => &[
            ("run", "Run now", false),
            ("archive", "Archive", false),
            ("delete", "Delete", true),
        ],
        TaskState::Archived => &[
            ("retry", "Retry", false),
            ("run", "Run once more", false),
            ("delete", "Delete", true),
        ],
        TaskState::Completed => &[("delete", "Delete", true)],
        // What a state of a later version allows is not known.
        _ => &[],
    }
}

fn task_actions(contents: &Contents) -> Markup {
    html! {
        div.actions {
            select name="which" aria-label="Which tasks" {
                option value="chosen" { "those chosen" }
                option value="all" { "all that match, on every page" }
            }
            @for (name, label, destroys) in actions_of(contents.state) {
                button.danger[*destroys] name="do" value=(name) data-confirm=[destroys.then(|| format!("{label}?"))] { (label) }
            }
            @if can_move(contents.state) {
                details {
                    summary { "Move" }
                    input name="to" list="queues" autocomplete="off" aria-label="Queue to move to" placeholder="to another queue";
                    datalist id="queues" { @for queue in contents.other_queues() { option value=(queue) {} } }
                    button name="do" value="move" { "Move" }
                }
            }
        }
    }
}

/// The first button of a form is what the Enter key presses: one that does nothing, where others change something.
pub(in crate::web) fn no_default() -> Markup {
    html! { button hidden disabled {} }
}

fn can_move(state: TaskState) -> bool {
    matches!(
        state,
        TaskState::Scheduled | TaskState::Pending | TaskState::Retry | TaskState::Archived
    )
}
