//! One queue: its tasks by state, a filter in the address, and what to do with those that are chosen.

use asynqueue_core::{
    Cursor, Name, Page, TaskInfo, TaskState,
    inspector::{Filter, InvalidFilter, Listing, QueueInfo},
};
use axum::extract::{Path, Query};
use maud::{Markup, html};
use serde::Deserialize;

use super::{Failed, View, notice, state_of};
use crate::web::{links::encoded, show};

const PAGE: usize = 50;

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    state: Option<String>,
    #[serde(default)]
    filter: String,
    after: Option<String>,
    did: Option<String>,
}

/// What is on the page beside the queue's own figures.
struct Shown<'a> {
    state: TaskState,
    filter: &'a str,
    listing: Result<Listing, InvalidFilter>,
    did: Option<&'a str>,
}

pub(crate) async fn show(
    view: View,
    Path(queue): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Markup, Failed> {
    let queue = Name::from(queue);
    let info = view.inspector.queue(&queue).await?;
    let state = match &asked.state {
        Some(name) => state_of(name)?,
        None => first_with_tasks(&info),
    };
    let page = Page {
        after: asked.after.map(Cursor),
        limit: PAGE,
    };
    let listing = match asked.filter.parse::<Filter>() {
        Ok(filter) => Ok(view.inspector.list(&queue, state, &filter, page).await?),
        Err(invalid) => Err(invalid),
    };
    let shown = Shown {
        state,
        filter: &asked.filter,
        listing,
        did: asked.did.as_deref(),
    };
    Ok(view.page(queue.as_str(), content(&view, &info, &shown)))
}

/// What needs a look first: failures, then what runs, then what waits.
fn first_with_tasks(info: &QueueInfo) -> TaskState {
    let order = [
        TaskState::Archived,
        TaskState::Retry,
        TaskState::Active,
        TaskState::Pending,
        TaskState::Scheduled,
        TaskState::Aggregating,
        TaskState::Completed,
    ];
    let mut with_tasks = order
        .into_iter()
        .filter(|state| info.stats.count(*state) > 0);
    with_tasks.next().unwrap_or(TaskState::Pending)
}

fn content(view: &View, info: &QueueInfo, shown: &Shown<'_>) -> Markup {
    html! {
        (notice(shown.did))
        div.bar data-queue=(info.name) {
            span { "oldest pending " b data-figure="latency" { (show::duration(info.stats.latency)) } }
            span { "today " b data-figure="succeeded" { (show::number(info.today.succeeded)) } " done, "
                b data-figure="failed" { (show::number(info.today.failed)) } " failed" }
            @if let Some(bytes) = info.memory { span { (show::bytes(bytes)) } }
            @if let Some(slot) = info.slot { span { "slot " (slot) } }
            @if info.stats.paused { span.paused { "paused" } }
            @if view.may_change() { (queue_actions(view, info)) }
        }
        nav.tabs aria-label="States" data-queue=(info.name) {
            @for state in TaskState::ALL {
                @if state != TaskState::Blocked {
                    a href=(view.links.state(&info.name, state)) aria-current=[(state == shown.state).then_some("page")] {
                        (state.as_str()) " "
                        span.count data-figure=(state.as_str()) { (show::number(info.stats.count(state))) }
                    }
                }
            }
        }
        form.filter {
            input type="hidden" name="state" value=(shown.state.as_str());
            input type="search" name="filter" value=(shown.filter) list="terms" aria-label="Filter"
                placeholder="event=email:* error~timeout age>1h payload~text id=… header.tenant=acme";
            datalist id="terms" {
                @for term in ["event=", "id=", "payload~", "error~", "age>1h", "age<5m", "header."] { option value=(term) {} }
            }
            button { "Filter" }
        }
        @match &shown.listing {
            Err(invalid) => { p.error role="alert" { (invalid) } },
            Ok(listing) => { (list(view, info, shown, listing)) },
        }
    }
}

fn queue_actions(view: &View, info: &QueueInfo) -> Markup {
    let action = format!("{}/act", view.links.queue(&info.name));
    html! {
        form.actions method="post" action=(action) {
            @if info.stats.paused {
                button name="do" value="resume" { "Resume" }
            } @else {
                button name="do" value="pause" { "Pause" }
            }
            @if info.stats.total() == 0 {
                button.danger name="do" value="delete" data-confirm="Delete this empty queue?" { "Delete" }
            }
        }
    }
}

fn list(view: &View, info: &QueueInfo, shown: &Shown<'_>, listing: &Listing) -> Markup {
    let next = listing.next.as_ref().map(|cursor| {
        let filter = encoded(shown.filter);
        format!(
            "{}&filter={filter}&after={}",
            view.links.state(&info.name, shown.state),
            encoded(&cursor.0)
        )
    });
    html! {
        @if listing.tasks.is_empty() {
            p.empty {
                @if next.is_some() { "None of the " (listing.scanned) " tasks looked at match; there are more." }
                @else if shown.filter.is_empty() { "No task is " (shown.state.as_str()) "." }
                @else { "No task matches." }
            }
        } @else if !view.may_change() {
            div.scroll { (table(view, shown.state, &listing.tasks)) }
        } @else {
            form method="post" action=(format!("{}/tasks", view.links.queue(&info.name))) {
                input type="hidden" name="state" value=(shown.state.as_str());
                input type="hidden" name="filter" value=(shown.filter);
                div.scroll { (table(view, shown.state, &listing.tasks)) }
                (task_actions(shown))
            }
        }
        @if let Some(next) = next { p { a.next href=(next) { "More" } } }
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
                    td.number { (envelope.attempts) }
                    td { (show::time(envelope.enqueued_at, view.now)) }
                    td { (when(view, task)) }
                    td.payload {
                        @match envelope.last_failure().filter(|_| failed) {
                            Some(failure) => { span.kind { (failure.kind) } " " (cut(&failure.message)) },
                            None => { code { (cut(&view.inspector.payload(task).to_string())) } },
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
        @else if let Some(at) = task.at { (show::time(at, view.now)) }
    }
}

/// The beginning of a text that may be long.
fn cut(text: &str) -> String {
    const LENGTH: usize = 120;
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What can be done with tasks of a state: the name of the action, what the button says, and whether it destroys.
pub(crate) fn actions_of(state: TaskState) -> &'static [(&'static str, &'static str, bool)] {
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
        TaskState::Completed | TaskState::Blocked => &[("delete", "Delete", true)],
    }
}

fn task_actions(shown: &Shown<'_>) -> Markup {
    html! {
        div.actions {
            select name="which" aria-label="Which tasks" {
                option value="chosen" { "those chosen" }
                option value="all" { "all that match, on every page" }
            }
            @for (name, label, destroys) in actions_of(shown.state) {
                button.danger[*destroys] name="do" value=(name) data-confirm=[destroys.then(|| format!("{label}?"))] { (label) }
            }
        }
    }
}
