//! One queue: its tasks by state, a filter in the address, and what to do with those that are chosen.

use std::{cmp::Reverse, collections::BTreeSet};

use asynqueue_core::{
    Cursor, HourStats, Name, Page, ServerInfo, TaskInfo, TaskState,
    inspector::{Filter, InvalidFilter, Listing, QueueInfo},
};
use axum::extract::{Path, Query};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    Failed, View,
    charts::{last_day, of_day},
    notice, state_of,
};
use crate::web::{links::encoded, show};

const PAGE: usize = 50;

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    state: Option<String>,
    #[serde(default)]
    filter: String,
    #[serde(default)]
    sort: String,
    after: Option<String>,
    did: Option<String>,
}

/// What is on the page beside the queue's own figures.
struct Shown<'a> {
    state: TaskState,
    filter: &'a str,
    sort: &'a str,
    /// What may complete the filter.
    terms: Vec<String>,
    history: Vec<HourStats>,
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
    let listing = match asked.filter.parse::<Filter>() {
        Ok(filter) if asked.sort.is_empty() => {
            let page = Page {
                after: asked.after.map(Cursor),
                limit: PAGE,
            };
            Ok(view.inspector.list(&queue, state, &filter, page).await?)
        }
        Ok(filter) => Ok(sorted(&view, &queue, state, &filter, &asked).await?),
        Err(invalid) => Err(invalid),
    };
    let seen = view.shared.live.now().await?;
    let tasks = listing.as_ref().map_or(&[][..], |listing| &listing.tasks);
    let shown = Shown {
        state,
        filter: &asked.filter,
        sort: &asked.sort,
        terms: terms(&seen.servers, tasks),
        history: last_day(&view, &queue).await?,
        listing,
        did: asked.did.as_deref(),
    };
    Ok(view.page(queue.as_str(), content(&view, &info, &shown)))
}

/// The ways to sort, and what they are called.
const SORTS: [(&str, &str); 5] = [
    ("", "in the order of the queue"),
    ("newest", "newest first"),
    ("oldest", "oldest first"),
    ("attempts", "most attempts first"),
    ("event", "by event"),
];

/// How many tasks are looked at to sort them.
const SORTED: usize = 2_000;

/// A part of the first tasks that match, sorted. It goes on after a number of tasks.
async fn sorted(
    view: &View,
    queue: &Name,
    state: TaskState,
    filter: &Filter,
    asked: &Asked,
) -> Result<Listing, Failed> {
    let from = asked.after.as_deref().unwrap_or("0").parse::<usize>();
    let from = from.map_err(|_| Failed::BadRequest("expected a number in `after`".into()))?;
    let mut all = Listing::default();
    loop {
        let page = Page {
            after: all.next.take(),
            limit: SORTED / 4,
        };
        let part = view.inspector.list(queue, state, filter, page).await?;
        all.scanned += part.scanned;
        all.tasks.extend(part.tasks);
        all.next = part.next;
        if all.next.is_none() || all.scanned >= SORTED {
            break;
        }
    }
    let enqueued = |task: &TaskInfo| task.envelope.enqueued_at;
    match asked.sort.as_str() {
        "newest" => all.tasks.sort_by_key(|task| Reverse(enqueued(task))),
        "oldest" => all.tasks.sort_by_key(enqueued),
        "attempts" => all
            .tasks
            .sort_by_key(|task| Reverse(task.envelope.attempts)),
        "event" => all
            .tasks
            .sort_by(|a, b| a.envelope.event.cmp(&b.envelope.event)),
        other => {
            let known = SORTS.map(|(name, _)| name).join(", ");
            let why = format!("`{other}` is no order: expected one of {known}");
            return Err(Failed::BadRequest(why));
        }
    }
    let rest = all.tasks.len().saturating_sub(from + PAGE);
    all.tasks = all.tasks.into_iter().skip(from).take(PAGE).collect();
    all.next = (rest > 0).then(|| Cursor((from + PAGE).to_string()));
    Ok(all)
}

/// What may complete a filter: the events that servers know, and events and headers of the tasks that are shown.
fn terms(servers: &[ServerInfo], tasks: &[TaskInfo]) -> Vec<String> {
    let of_servers = servers.iter().flat_map(|server| &server.events);
    let of_tasks = tasks.iter().map(|task| &task.envelope.event);
    let events = of_servers.chain(of_tasks);
    let events = events.map(|event| format!("event={}", quoted(event)));
    let headers = tasks.iter().flat_map(|task| task.envelope.headers.iter());
    let headers = headers
        .filter(|(name, _)| *name != "traceparent")
        .map(|(name, value)| format!("header.{name}={}", quoted(value)));
    let known: BTreeSet<_> = events.chain(headers).collect();
    let always = ["id=", "payload~", "error~", "age>1h", "age<5m"];
    let always = always.into_iter().map(str::to_owned);
    always.chain(known.into_iter().take(TERMS)).collect()
}

/// A value as a filter takes it.
fn quoted(value: &str) -> String {
    if value.contains(|c: char| c.is_whitespace() || c == '"' || c == '\\') {
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{escaped}\"")
    } else {
        value.to_owned()
    }
}

/// How many terms are suggested.
const TERMS: usize = 60;

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
            span { "oldest pending " b data-figure="latency" { (show::wait(info.stats.latency)) } }
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
            datalist id="terms" { @for term in &shown.terms { option value=(term) data-term=(term) {} } }
            select name="sort" aria-label="Order" {
                @for (name, title) in SORTS { option value=(name) selected[name == shown.sort] { (title) } }
            }
            button { "Filter" }
        }
        @match &shown.listing {
            Err(invalid) => { p.error role="alert" { (invalid) } },
            Ok(listing) => { (list(view, info, shown, listing)) },
        }
        (of_day(view, shown.history.iter()))
        p { a href=(format!("{}?span=week&queue={}", view.links.page("charts"), encoded(&info.name))) { "Longer ago" } }
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
            } @else {
                details.danger {
                    summary { "Delete with its tasks" }
                    input name="name" autocomplete="off" aria-label=(format!("Type {} to delete it with its tasks", info.name)) placeholder=(info.name);
                    button.danger name="do" value="delete all" { "Delete all" }
                }
            }
        }
    }
}

fn list(view: &View, info: &QueueInfo, shown: &Shown<'_>, listing: &Listing) -> Markup {
    let next = listing.next.as_ref().map(|cursor| {
        let filter = encoded(shown.filter);
        format!(
            "{}&filter={filter}&sort={}&after={}",
            view.links.state(&info.name, shown.state),
            encoded(shown.sort),
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
        @if !shown.sort.is_empty() && listing.scanned >= SORTED {
            p.note { "The first " (show::number(listing.scanned as u64)) " tasks of the queue are sorted; those behind them are not among these." }
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
                    td { (view.time(envelope.enqueued_at)) }
                    td { (when(view, task)) }
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
