//! The schedule entries.

use asynqueue_core::{
    broker::{FireOutcome, ScheduleEntry, ScheduleEvent},
    inspector::{ActionKind, ActionTarget},
};
use axum::extract::Query;
use maud::{Markup, html};
use serde::Deserialize;

use super::{button, no_default, reason, search};
use crate::web::{
    links::encoded,
    reading::schedules::{PAGE, Part, Schedules},
    request::{Failed, View},
};

#[derive(Debug, Deserialize)]
pub(crate) struct Params {
    did: Option<String>,
    /// Shows only entries whose name contains this.
    #[serde(default)]
    name: String,
    /// How many entries to skip.
    #[serde(default)]
    after: usize,
}

pub(crate) async fn show(view: View, Query(params): Query<Params>) -> Result<Markup, Failed> {
    let live = &view.shared.live;
    let part = Part {
        name: params.name.clone(),
        after: params.after,
    };
    let read = Schedules::read(&view.inspector, &part);
    let shown = live.read(&live.schedules, part.clone(), read).await?;
    let next = params.after.saturating_add(PAGE);
    Ok(view.page("Schedules", html! {
        (view.notice(params.did.as_deref()))
        @if shown.count > 10 { (search("schedule", &params.name, &[])) }
        div id="schedules" data-fresh="schedules" data-version=(shown.version) {
            @if shown.rows.is_empty() { p.empty { "No schedule entries." } }
            @else { (table(&view, &shown)) }
            @if shown.has_more { p { a.next href=(format!("?name={}&after={next}", encoded(&params.name))) { "Next page" } } }
        }
    }))
}

fn table(view: &View, shown: &Schedules) -> Markup {
    html! {
        div.scroll { table {
            thead { tr {
                th scope="col" { "Entry" } th scope="col" { "Rule" } th scope="col" { "Task" }
                th scope="col" { "Next tick" } th scope="col" { "Recent ticks" } th scope="col" { "Source" }
                @if view.may_change() { th {} }
            } }
            tbody { @for (entry, events) in &shown.rows { (row(view, entry, events)) } }
        } }
    }
}

fn row(view: &View, entry: &ScheduleEntry, events: &[ScheduleEvent]) -> Markup {
    let page = view
        .links
        .page(&format!("schedules/{}", encoded(&entry.name)));
    html! {
        tr {
            th scope="row" { a href=(page) { (entry.name) } @if entry.paused { " " span.paused { "paused" } } }
            td { code { (entry.rule) } }
            td { (entry.template.event) " in " a href=(view.links.queue(&entry.template.queue)) { (entry.template.queue) } }
            td { @match entry.next { Some(next) => { (view.time(next)) }, None => { "none" } } }
            td { ul.ticks { @for event in events { li { (view.time(event.tick)) ": " (outcome(view, event)) } } } }
            td { (entry.source) }
            @if view.may_change() { td { (buttons(view, entry, false)) } }
        }
    }
}

/// The buttons of an entry, with a field for the reason of a pause if there is room for it.
pub(super) fn buttons(view: &View, entry: &ScheduleEntry, has_room: bool) -> Markup {
    html! {
        form.actions method="post" action=(view.links.page("schedules")) {
            input type="hidden" name="entry" value=(entry.name);
            @if has_room && !entry.paused { (no_default()) (reason()) }
            (button(if entry.paused { ActionKind::Resume } else { ActionKind::Pause }, ActionTarget::Schedule))
            (button(ActionKind::Trigger, ActionTarget::Schedule))
        }
    }
}

pub(super) fn outcome(view: &View, event: &ScheduleEvent) -> Markup {
    html! {
        @match &event.outcome {
            FireOutcome::Enqueued(task) => { a href=(view.links.task(task)) { (task.id) } },
            FireOutcome::Refused(reason) | FireOutcome::Skipped(reason) => { (reason) },
            _ => {},
        }
    }
}
