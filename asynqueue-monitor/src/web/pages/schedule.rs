//! One schedule entry: its rule and the outcome of its recent ticks.

use asynqueue_core::{
    broker::{FireOutcome, Pausable, ScheduleEntry, TaskInfo},
    scheduler::Rule,
    task::{TaskState, Timestamp},
};
use axum::extract::{Path, Query};
use maud::{Markup, html};
use serde::Deserialize;
use std::sync::Arc;

use super::{
    schedules::{buttons, outcome},
    why,
};
use crate::web::{
    links::encoded,
    request::{Failed, View},
    show,
};

/// How many past and future ticks to show.
const EVENTS: usize = 100;
const NEXT: usize = 5;

#[derive(Debug, Deserialize)]
pub(crate) struct Params {
    did: Option<String>,
}

pub(crate) async fn show(
    view: View,
    Path(name): Path<String>,
    Query(params): Query<Params>,
) -> Result<Markup, Failed> {
    let entries = view.inspector.schedules().await?;
    let found = entries
        .into_iter()
        .find(|entry| entry.name == name.as_str());
    let entry = found
        .ok_or_else(|| Failed::NotFound(format!("Schedule entry `{name}` does not exist.")))?;
    let events = view.inspector.schedule_events(&entry.name, EVENTS).await?;
    let of = [Pausable::Schedule(entry.name.clone())];
    let pause = match entry.paused {
        true => view.inspector.pauses(&of).await?.pop().flatten(),
        false => None,
    };
    let mut template = TaskInfo::new(
        Arc::new(entry.template.clone()),
        TaskState::Scheduled,
        asynqueue_core::broker::Version::default(),
    );
    template.at = entry.next;
    let payload = view.inspector.payload(&template);
    Ok(view.page(&name, html! {
        (view.notice(params.did.as_deref()))
        p.crumbs { a href=(view.links.page("schedules")) { "Schedules" } @if entry.paused { " " span.paused { "paused" } } }
        @if entry.paused { (why::of_pause(&view, pause.as_ref())) }
        @if view.may_change() { (buttons(&view, &entry, true)) }
        div.columns {
            section { h2 { "Details" } (details(&view, &entry)) }
            section { h2 { "Payload" } pre { (format!("{payload:#}")) } }
        }
        p { a href=(format!("{}?schedule={}", view.links.page("audit"), encoded(&entry.name))) { "Changes" } }
        section {
            h2 { "Recent ticks" }
            @if events.is_empty() { p.empty { "No ticks yet." } }
            @else { div.scroll { table {
                thead { tr { th scope="col" { "Tick" } th scope="col" { "Delay" } th scope="col" { "Outcome" } } }
                tbody { @for event in &events {
                    tr {
                        td { (view.time(event.tick)) }
                        td.number { (show::duration(event.at.since(event.tick))) }
                        td { @match &event.outcome {
                            FireOutcome::Enqueued(_) => { "enqueued " (outcome(&view, event)) },
                            FireOutcome::Refused(_) => { span.kind { "refused" } " " (outcome(&view, event)) },
                            FireOutcome::Skipped(_) => { span.paused { "skipped" } " " (outcome(&view, event)) },
                            _ => { "unknown outcome" },
                        } }
                    }
                } }
            } } }
        }
    }))
}

fn details(view: &View, entry: &ScheduleEntry) -> Markup {
    html! {
        dl {
            dt { "Rule" } dd { code { (entry.rule) } }
            dt { "Event" } dd { (entry.template.event) }
            dt { "Queue" } dd { a href=(view.links.queue(&entry.template.queue)) { (entry.template.queue) } }
            dt { "Source" } dd { (entry.source) }
            @if !entry.jitter.is_zero() { dt { "Jitter" } dd { (show::duration(entry.jitter)) } }
            dt { "Next ticks" } dd {
                @if entry.next.is_none() { "none" }
                ul.ticks { @for tick in next(entry) { li { (view.time(tick)) } } }
            }
        }
    }
}

fn next(entry: &ScheduleEntry) -> Vec<Timestamp> {
    let rule = Rule::parse(&entry.rule).ok();
    let after = |tick: &Timestamp| rule.as_ref().and_then(|rule| rule.next_after(*tick));
    std::iter::successors(entry.next, after)
        .take(NEXT)
        .collect()
}
