//! What is enqueued by the clock.

use asynqueue_core::{FireOutcome, ScheduleEntry, ScheduleEvent};
use axum::extract::Query;
use maud::{Markup, html};
use serde::Deserialize;

use super::{Failed, View, notice};
use crate::web::links::encoded;

/// How many ticks of each entry to show.
const EVENTS: usize = 5;

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    did: Option<String>,
}

pub(crate) async fn show(view: View, Query(asked): Query<Asked>) -> Result<Markup, Failed> {
    let entries = view.inspector.schedules().await?;
    let mut rows = Vec::with_capacity(entries.len());
    for entry in entries {
        let events = view.inspector.schedule_events(&entry.name, EVENTS).await?;
        rows.push((entry, events));
    }
    Ok(view.page("Schedules", html! {
        (notice(asked.did.as_deref()))
        @if rows.is_empty() {
            p.empty { "There are none." }
        } @else {
            div.scroll { table {
                thead { tr {
                    th scope="col" { "Entry" } th scope="col" { "Rule" } th scope="col" { "Task" }
                    th scope="col" { "Next" } th scope="col" { "Last ticks" } th scope="col" { "From" }
                    @if view.may_change() { th {} }
                } }
                tbody { @for (entry, events) in &rows { (row(&view, entry, events)) } }
            } }
        }
    }))
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
            td { @match entry.next { Some(next) => { (view.time(next)) }, None => { "never again" } } }
            td { ul.ticks { @for event in events { li { (view.time(event.tick)) ": " (outcome(view, event)) } } } }
            td { (entry.source) }
            @if view.may_change() { td { (buttons(view, entry)) } }
        }
    }
}

pub(super) fn buttons(view: &View, entry: &ScheduleEntry) -> Markup {
    html! {
        form.actions method="post" action=(view.links.page("schedules")) {
            input type="hidden" name="entry" value=(entry.name);
            @if entry.paused { button name="do" value="resume" { "Resume" } }
            @else { button name="do" value="pause" { "Pause" } }
            button name="do" value="trigger" { "Run now" }
        }
    }
}

pub(super) fn outcome(view: &View, event: &ScheduleEvent) -> Markup {
    html! {
        @match &event.outcome {
            FireOutcome::Enqueued(task) => { a href=(view.links.task(task)) { (task.id) } },
            FireOutcome::Refused(reason) | FireOutcome::Skipped(reason) => { (reason) },
        }
    }
}
