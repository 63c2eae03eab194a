//! The audit: who changed what, when and from where.

use asynqueue_core::{
    inspector::{ActionKind, AuditCursor, AuditEdit, AuditEntry, AuditQuery, AuditTarget},
    task::{TaskId, TaskRef},
};
use axum::extract::Query;
use maud::{Markup, html};
use serde::Deserialize;

use crate::web::{
    links::encoded,
    reading::audit::{AROUND, Range},
    request::{Failed, View},
    show,
};

/// The number of changes on a page.
const PAGE: usize = 50;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Params {
    /// Only changes of this queue and its tasks.
    queue: String,
    /// Only changes of this schedule entry.
    schedule: String,
    /// Only changes by this user.
    by: String,
    /// Only changes of this day.
    day: String,
    /// Only changes around this time.
    at: String,
    /// The place where the previous page ended.
    after: String,
}

impl Params {
    fn query(&self, range: Range) -> Result<AuditQuery, String> {
        let some = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let mut query = AuditQuery::default();
        let schedule = some(&self.schedule).map(|name| AuditTarget::Schedule(name.into()));
        let queue = || some(&self.queue).map(|name| AuditTarget::Queue(name.into()));
        query.on = schedule.or_else(queue);
        query.actor = some(&self.by);
        (query.from, query.until) = (range.from, range.until);
        query.limit = PAGE;
        let after = some(&self.after).map(|after| after.parse::<AuditCursor>());
        query.after = after.transpose().map_err(|error| error.to_string())?;
        Ok(query)
    }

    /// The link to the page after a place.
    fn next(&self, after: &AuditCursor) -> String {
        let after = after.to_string();
        let fields = [
            ("queue", &self.queue),
            ("schedule", &self.schedule),
            ("by", &self.by),
            ("day", &self.day),
            ("at", &self.at),
            ("after", &after),
        ];
        let fields = fields.into_iter().filter(|(_, value)| !value.is_empty());
        let fields = fields.map(|(name, value)| format!("{name}={}", encoded(value)));
        format!("?{}", fields.collect::<Vec<_>>().join("&"))
    }
}

pub(crate) async fn show(view: View, Query(params): Query<Params>) -> Result<Markup, Failed> {
    let range = Range::parse(&params.day, &params.at, view.settings.zone, view.now);
    let query = range.and_then(|range| Ok((range, params.query(range)?)));
    let content = match query {
        Ok((range, query)) => {
            let live = &view.shared.live;
            let read = view.inspector.audit(&query);
            let page = live.read(&live.audits, query.clone(), read).await?;
            html! {
                @if let Some(at) = range.around {
                    p.note { "Changes within " (show::duration(AROUND)) " of " (view.date(at)) "." }
                }
                @if page.entries.is_empty() { p.empty { (none(&view)) } }
                @else { (table(&view, &page.entries)) }
                @if let Some(next) = &page.next { p { a.next href=(params.next(next)) { "Next page" } } }
            }
        }
        Err(invalid) => html! { p.error role="alert" { (invalid) } },
    };
    Ok(view.page(
        "Audit",
        html! {
            (form(&view, &params))
            (content)
        },
    ))
}

fn none(view: &View) -> &'static str {
    match view.inspector.capabilities().points {
        true => "No changes. They are kept for 90 days.",
        false => "This store keeps no changes: they are only written to the log.",
    }
}

fn form(view: &View, params: &Params) -> Markup {
    html! {
        form.filter {
            @if params.schedule.is_empty() {
                input type="search" name="queue" value=(params.queue) placeholder="Queue" aria-label="Filter by queue";
            } @else {
                input type="search" name="schedule" value=(params.schedule) placeholder="Schedule entry" aria-label="Filter by schedule entry";
            }
            input type="search" name="by" value=(params.by) placeholder="User" aria-label="Filter by user";
            input type="date" name="day" value=(params.day) aria-label="Day";
            input name="at" value=(params.at) size="8" placeholder="14:05" aria-label="Around this time";
            button { "Filter" }
            a href=(view.links.page("audit")) { "All changes" }
        }
    }
}

fn table(view: &View, entries: &[AuditEntry]) -> Markup {
    html! {
        div.scroll { table.audit {
            thead { tr {
                th scope="col" { "Time" } th scope="col" { "User" } th scope="col" { "Changed" } th scope="col" { "What" }
            } }
            tbody { @for entry in entries {
                tr {
                    td { (view.still(entry.at)) }
                    td { (who(entry)) }
                    td { (place(view, entry)) }
                    td { (what(view, entry)) }
                }
            } }
        } }
    }
}

/// Who made a change, and from where.
pub(super) fn who(entry: &AuditEntry) -> Markup {
    html! {
        @match &entry.by {
            Some(by) => { (by.name) @if let Some(from) = &by.from { " " span.note { "from " (from) } } },
            None => { span.note { "unknown" } },
        }
    }
}

fn place(view: &View, entry: &AuditEntry) -> Markup {
    let name = entry.on.name();
    let link = match &entry.on {
        AuditTarget::Queue(queue) => view.links.queue(queue),
        AuditTarget::Schedule(entry) => view.links.page(&format!("schedules/{}", encoded(entry))),
        AuditTarget::Server(_) => view.links.page("servers"),
        AuditTarget::Outbox(_) => view.links.page("outboxes"),
        _ => return html! { (entry.on.kind()) " " (name) },
    };
    html! { (entry.on.kind()) " " a href=(link) { (name) } }
}

/// The change in words, with links to its tasks and the old payload.
fn what(view: &View, entry: &AuditEntry) -> Markup {
    html! {
        span { (entry.describe()) }
        @if entry.kind() != Some(ActionKind::Delete) { (tasks(view, entry)) }
        (before(entry))
    }
}

fn tasks(view: &View, entry: &AuditEntry) -> Markup {
    let AuditTarget::Queue(queue) = &entry.on else {
        return html! { @if let Some(task) = &entry.enqueued { " " a href=(view.links.task(task)) { "Open task" } } };
    };
    // Moved tasks are there now.
    let queue = entry.destination.as_ref().unwrap_or(queue);
    let link = |id: &TaskId| view.links.task(&TaskRef::new(queue.clone(), id.clone()));
    let more = entry.done.saturating_sub(entry.tasks.len() as u64);
    html! {
        @match &entry.tasks[..] {
            [] => {},
            [task] => { " " a href=(link(task)) { "Open task" } },
            tasks => {
                details {
                    summary { "Tasks" }
                    ul.ticks {
                        @for task in tasks { li { a href=(link(task)) { (task) } } }
                        @if more > 0 { li { "and " (show::number(more)) " more" } }
                    }
                }
            },
        }
    }
}

/// The payload before an edit, and how its shape changed.
pub(super) fn before(entry: &AuditEntry) -> Markup {
    let Some(edit) = &entry.edit else {
        return html! {};
    };
    html! {
        @if !edit.shape.is_empty() {
            div { span.paused { "shape changed" } " " (edit.shape.join(", ")) }
        }
        details {
            summary { "Payload before" }
            pre { (text(edit)) }
            @if !edit.is_complete { p.note { "The payload was longer: only its start is kept." } }
        }
    }
}

fn text(edit: &AuditEdit) -> String {
    let payload = edit.payload();
    payload.map_or_else(|| edit.before.clone(), |payload| format!("{payload:#}"))
}
