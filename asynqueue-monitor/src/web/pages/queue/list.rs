//! The tasks of a queue in one state, and their actions.

use asynqueue_core::{
    broker::TaskInfo,
    inspector::{ActionKind, ActionTarget},
    task::TaskState,
};
use maud::{Markup, html};

use super::{Params, headers::columns};
use crate::web::{
    links::encoded,
    pages::{button, no_default},
    reading::queue::{Contents, Order, SORTED, running_on},
    request::View,
    show,
    version::version_of_tasks,
};

pub(super) fn list(view: &View, contents: &Contents, params: &Params, order: Order) -> Markup {
    let (filter, columns) = (&*params.filter, columns(&params.columns));
    let Contents {
        info,
        state,
        listing,
        ..
    } = contents;
    let next = listing.next.as_ref().map(|cursor| {
        format!(
            "{}&filter={}&sort={}&columns={}&after={}",
            view.links.state(&info.name, *state),
            encoded(filter),
            order.name(),
            encoded(&params.columns),
            encoded(&cursor.0)
        )
    });
    html! {
        div id="tasks" data-fresh="tasks" data-version=(version_of_tasks(info)) data-queue=(info.name) {
            @if contents.order != order {
                p.note {
                    "Not sorted, because only lists of up to " (show::number(SORTED as u64)) " tasks are. The order is: "
                    (contents.order.title(*state)) "."
                }
            }
            @if listing.tasks.is_empty() {
                p.empty {
                    @if next.is_some() { "None of these " (show::number(listing.scanned as u64)) " tasks match. More tasks remain." }
                    @else if filter.is_empty() { "No " (state.as_str()) " tasks." }
                    @else { "No matching tasks." }
                }
            } @else if !view.may_change() {
                div.scroll { (table(view, contents, &columns)) }
            } @else {
                form.tasks method="post" action=(format!("{}/tasks", view.links.queue(&info.name))) {
                    (no_default())
                    input type="hidden" name="state" value=(state.as_str());
                    input type="hidden" name="filter" value=(filter);
                    input type="hidden" name="sort" value=(params.sort);
                    input type="hidden" name="columns" value=(params.columns);
                    // Shows how many tasks match before all of them are changed.
                    input type="hidden" name="ask" value="1";
                    div.scroll { (table(view, contents, &columns)) }
                    (task_actions(contents))
                }
            }
            @if let Some(next) = next { p { a.next href=(next) { "Next page" } } }
        }
    }
}

fn table(view: &View, contents: &Contents, columns: &[&str]) -> Markup {
    let (state, tasks) = (contents.state, &contents.listing.tasks);
    let is_active = state == TaskState::Active;
    let failed = matches!(state, TaskState::Retry | TaskState::Archived);
    html! {
        table.tasks {
            thead { tr {
                @if view.may_change() { th { input type="checkbox" data-all aria-label="Select all on this page"; } }
                th scope="col" { "Task" } th scope="col" { "Event" }
                @for name in columns { th scope="col" { (name) } }
                th.number scope="col" { "Attempts" }
                th scope="col" { "Enqueued" }
                th scope="col" { (when_title(state)) }
                @if is_active { th scope="col" { "Running since" } th.number scope="col" { "Progress" } }
                th scope="col" { @if failed { "Failure" } @else { "Payload" } }
            } }
            tbody { @for task in tasks {
                @let envelope = &task.envelope;
                tr {
                    @if view.may_change() {
                        td { input type="checkbox" name="id" value=(envelope.id) aria-label=(format!("Select {}", envelope.id)); }
                    }
                    td { a.id href=(view.links.task(&envelope.task_ref())) { (envelope.id) } }
                    td { (envelope.event) }
                    @for name in columns { td data-label=(name) { (envelope.headers.get(name).map_or("", |value| value)) } }
                    td.number data-label="Attempts" { (show::number(envelope.attempts.into())) }
                    td data-label="Enqueued" { (view.time(envelope.enqueued_at)) }
                    td data-label=(when_title(state)) { (when(view, task)) }
                    @if is_active { (running(view, contents, task)) }
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

/// Since when an active task runs and how far it is, by the report of its server. A lost server does not know.
fn running(view: &View, contents: &Contents, task: &TaskInfo) -> Markup {
    let reported = running_on(&contents.servers, task);
    html! {
        td data-label="Running since" {
            @if let Some((server, running)) = reported {
                @let is_lost = server.is_lost(view.now);
                (view.time_of(running.started, !is_lost))
                @if is_lost { " " span.kind { "server lost" } }
            } @else { "–" }
        }
        td.number data-label="Progress" {
            @match &task.progress {
                Some(progress) => { (show::percent(progress.done, progress.total)) },
                None => { "–" },
            }
        }
    }
}

/// The actions that have a button for tasks in a state. Actions with a parameter have separate forms. Waiting tasks
/// have no `Cancel`, because `Archive` has the same effect.
pub(in crate::web::pages) fn offered(state: TaskState) -> impl Iterator<Item = ActionKind> {
    let kinds = ActionKind::ALL.iter().copied();
    kinds.filter(move |kind| match kind {
        ActionKind::Edit | ActionKind::Move => false,
        ActionKind::Cancel => state == TaskState::Active,
        kind => kind.applies_to(ActionTarget::Task(state)),
    })
}

fn task_actions(contents: &Contents) -> Markup {
    let task = ActionTarget::Task(contents.state);
    html! {
        div.actions {
            select name="which" aria-label="Tasks to change" {
                option value="chosen" { "Selected tasks" }
                option value="all" { "All matching tasks, on every page" }
            }
            @for kind in offered(contents.state) { (button(kind, task)) }
            @if ActionKind::Move.applies_to(task) {
                details {
                    summary { (ActionKind::Move.label(task)) }
                    input name="to" list="queues" autocomplete="off" aria-label="Destination queue" placeholder="Destination queue";
                    datalist id="queues" { @for queue in contents.other_queues() { option value=(queue) {} } }
                    (button(ActionKind::Move, task))
                }
            }
        }
    }
}
