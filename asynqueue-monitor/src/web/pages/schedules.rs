//! What is enqueued by the clock.

use asynqueue_core::{
    broker::{BrokerError, FireOutcome, ScheduleEntry, ScheduleEvent},
    inspector::Inspector,
};
use axum::extract::Query;
use futures_util::{StreamExt, TryStreamExt, stream};
use maud::{Markup, html};
use serde::Deserialize;

use super::{AT_A_TIME, Failed, View, search};
use crate::web::{links::encoded, live::version_of_schedules};

/// How many ticks of each entry to show.
const EVENTS: usize = 5;

/// How many entries a page shows.
const PAGE: usize = 100;

#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    did: Option<String>,
    /// A part of the names of the entries to show.
    #[serde(default)]
    name: String,
    /// How many entries are before those to show.
    #[serde(default)]
    after: usize,
}

/// A part of the entries, each with its last ticks.
#[derive(Debug)]
pub(in crate::web) struct Schedules {
    rows: Vec<(ScheduleEntry, Vec<ScheduleEvent>)>,
    /// How many entries there are, whatever their names.
    count: usize,
    has_more: bool,
    version: String,
}

impl Schedules {
    async fn read(inspector: &Inspector, asked: &Asked) -> Result<Self, BrokerError> {
        let mut entries = inspector.schedules().await?;
        let (count, version) = (entries.len(), version_of_schedules(&entries));
        entries.retain(|entry| entry.name.contains(&asked.name));
        let has_more = entries.len() > asked.after.saturating_add(PAGE);
        let shown = entries.into_iter().skip(asked.after).take(PAGE);
        let with_events = shown.map(async |entry| {
            let events = inspector.schedule_events(&entry.name, EVENTS).await?;
            Ok::<_, BrokerError>((entry, events))
        });
        let rows = stream::iter(with_events).buffered(AT_A_TIME);
        Ok(Self {
            rows: rows.try_collect().await?,
            count,
            has_more,
            version,
        })
    }
}

pub(crate) async fn show(view: View, Query(asked): Query<Asked>) -> Result<Markup, Failed> {
    let live = &view.shared.live;
    let read = Schedules::read(&view.inspector, &asked);
    let shown = live.read(&live.schedules, asked.clone(), read).await?;
    let next = asked.after.saturating_add(PAGE);
    Ok(view.page("Schedules", html! {
        (view.notice(asked.did.as_deref()))
        @if shown.count > 10 { (search("schedule", &asked.name, "")) }
        div id="schedules" data-fresh="schedules" data-version=(shown.version) {
            @if shown.rows.is_empty() { p.empty { "There are none." } }
            @else { (table(&view, &shown)) }
            @if shown.has_more { p { a.next href=(format!("?name={}&after={next}", encoded(&asked.name))) { "More" } } }
        }
    }))
}

fn table(view: &View, shown: &Schedules) -> Markup {
    html! {
        div.scroll { table {
            thead { tr {
                th scope="col" { "Entry" } th scope="col" { "Rule" } th scope="col" { "Task" }
                th scope="col" { "Next" } th scope="col" { "Last ticks" } th scope="col" { "From" }
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
