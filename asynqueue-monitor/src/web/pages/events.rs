//! The attempts of each event: how many, how they end, and how long they take.

use std::{cmp::Reverse, collections::BTreeMap};

use asynqueue_core::{
    inspector::Course,
    statistics::{EventStats, Histogram, Span},
    task::Name,
};
use axum::extract::Query;
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    each_minute, search,
    steps::{Steps, title},
};
use crate::web::{
    chart::{self, Mark},
    links::encoded,
    request::{Failed, View},
    show,
};

#[derive(Debug, Deserialize)]
pub(crate) struct Params {
    #[serde(default)]
    span: String,
    #[serde(default)]
    sort: String,
    /// Shows only events whose name contains this.
    #[serde(default)]
    name: String,
    event: Option<String>,
}

/// How the table is sorted: the name in the address, the title, and what comes first.
const SORTS: [(&str, &str); 5] = [
    ("", "most attempts"),
    ("failed", "most failures"),
    ("slow", "slowest"),
    ("waiting", "longest wait"),
    ("name", "name"),
];

/// With more events than this, they can be filtered by name.
const FEW: usize = 10;

/// The maximum number of rows in the table.
const ROWS: usize = 500;

pub(crate) async fn show(view: View, Query(params): Query<Params>) -> Result<Markup, Failed> {
    let span = chosen(&params.span)?;
    match &params.event {
        Some(event) => one(&view, span, event).await,
        None => all(&view, span, &params).await,
    }
}

/// The span with this name in the address.
pub(super) fn chosen(name: &str) -> Result<Span, Failed> {
    match name {
        "" => Ok(Span::default()),
        name => name
            .parse()
            .map_err(|error: asynqueue_core::statistics::InvalidSpan| {
                Failed::BadRequest(error.to_string())
            }),
    }
}

/// Links to the same page for each span. `rest` is the rest of the query, such as `&sort=name`.
pub(super) fn spans(view: &View, page: &str, span: Span, rest: &str) -> Markup {
    html! {
        nav.tabs aria-label="Time range" {
            @for one in Span::ALL {
                a href=(format!("{}?span={one}{rest}", view.links.page(page))) aria-current=[(one == span).then_some("page")] { (title(one)) }
            }
        }
    }
}

async fn all(view: &View, span: Span, params: &Params) -> Result<Markup, Failed> {
    let sort = &*params.sort;
    let Some((sort, _)) = SORTS.into_iter().find(|(name, _)| *name == sort) else {
        let names = SORTS.map(|(name, _)| name).join("`, `");
        return Err(Failed::BadRequest(format!(
            "unknown order `{sort}`: use one of `{names}`"
        )));
    };
    let mut stats = view.inspector.event_stats(None, span).await?;
    let is_filtered = stats.len() > FEW || !params.name.is_empty();
    stats.retain(|event, _| event.contains(&params.name));
    let events = sorted(&stats, sort);
    let name = match &*params.name {
        "" => String::new(),
        name => format!("&name={}", encoded(name)),
    };
    let rest = match sort {
        "" => name.clone(),
        sort => format!("&sort={sort}{name}"),
    };
    let content = html! {
        @if !view.inspector.capabilities().points {
            p.empty { "This store keeps no statistics by event." }
        } @else if events.is_empty() && !params.name.is_empty() {
            p.empty { "No event with attempts in the last " (title(span)) " has " code { (params.name) } " in its name." }
        } @else if events.is_empty() {
            p.empty { "No attempts in the last " (title(span)) ". Servers report their figures every 10 seconds." }
        } @else {
            (table(view, span, &events))
            @if events.len() > ROWS { p.note { "Only the first " (show::number(ROWS as u64)) " events are shown." } }
        }
    };
    Ok(view.page("Events", html! {
        (spans(view, "events", span, &rest))
        nav.sorts aria-label="Order" {
            "Sorted by "
            @for (place, (order, title)) in SORTS.into_iter().enumerate() {
                @if place > 0 { " · " }
                a href=(format!("{}?span={span}&sort={order}{name}", view.links.page("events"))) aria-current=[(order == sort).then_some("true")] { (title) }
            }
        }
        @if is_filtered { (search("event", &params.name, &[("span", span.as_str()), ("sort", sort)])) }
        (each_minute(view, "events", content))
    }))
}

fn sorted<'a>(
    stats: &'a BTreeMap<Name, EventStats>,
    sort: &str,
) -> Vec<(&'a Name, &'a EventStats)> {
    let mut events: Vec<_> = stats.iter().collect();
    let p95 = |times: &Histogram| Reverse(times.percentile(0.95));
    match sort {
        "failed" => events.sort_by_key(|(_, stats)| Reverse((stats.failed, stats.started))),
        "slow" => events.sort_by_key(|(_, stats)| p95(&stats.running)),
        "waiting" => events.sort_by_key(|(_, stats)| p95(&stats.waiting)),
        "name" => {}
        _ => events.sort_by_key(|(_, stats)| Reverse(stats.started)),
    }
    events
}

fn table(view: &View, span: Span, events: &[(&Name, &EventStats)]) -> Markup {
    let columns = [
        "Attempts",
        "Failed",
        "Failure rate",
        "Archived",
        "Lost",
        "p50",
        "p95",
        "p99",
        "Wait p95",
    ];
    html! {
        div.scroll { table {
            thead { tr {
                th scope="col" { "Event" }
                @for column in columns { th.number scope="col" { (column) } }
            } }
            tbody { @for (event, stats) in events.iter().take(ROWS) {
                tr {
                    th scope="row" { (link(view, span, event)) }
                    td.number { (show::number(stats.started)) }
                    td.number { (show::number(stats.failed)) }
                    td.number { @if let Some(rate) = stats.failure_rate() { (format!("{:.1} %", rate * 100.0)) } }
                    td.number { (show::number(stats.archived)) }
                    td.number { (show::number(stats.lost)) }
                    @for share in [0.5, 0.95, 0.99] { td.number { (percentile(&stats.running, share)) } }
                    td.number { (percentile(&stats.waiting, 0.95)) }
                }
            } }
        } }
    }
}

fn link(view: &View, span: Span, event: &Name) -> Markup {
    html! {
        @if event.is_empty() { "(others)" } @else {
            a href=(format!("{}?span={span}&event={}", view.links.page("events"), encoded(event))) { (event) }
        }
    }
}

fn percentile(times: &Histogram, share: f64) -> String {
    let time = times.percentile(share);
    time.map_or_else(|| "–".into(), show::time)
}

async fn one(view: &View, span: Span, event: &str) -> Result<Markup, Failed> {
    let event = Name::from(event);
    let course = view.inspector.event_course(&event, span).await?;
    let rest = format!("&event={}", encoded(&event));
    let content = charts(view, span, &course).await?;
    Ok(view.page(
        event.as_str(),
        html! {
            p.crumbs { a href=(format!("{}?span={span}", view.links.page("events"))) { "All events" } }
            (spans(view, "events", span, &rest))
            (each_minute(view, "event", content))
        },
    ))
}

/// The attempts and times of an event over a span.
async fn charts(view: &View, span: Span, course: &Course) -> Result<Markup, Failed> {
    let mut sum = EventStats::default();
    course.iter().for_each(|(_, stats)| sum.merge(stats));
    let steps = Steps::of(span, view.now);
    let marks = marks(view, span, &steps).await?;
    let labels = steps.labels(view);
    let write = |seconds: f64| show::time(std::time::Duration::from_secs_f64(seconds));
    let running = steps.percentiles(course, |stats, share| stats.running.percentile(share));
    let waiting = steps.percentiles(course, |stats, share| stats.waiting.percentile(share));
    Ok(html! {
        dl.figures {
            div { dt { "Attempts" } dd { (show::number(sum.started)) } }
            div { dt { "Succeeded" } dd { (show::number(sum.succeeded)) } }
            div { dt { "Failed" } dd { (show::number(sum.failed)) } }
            @if let Some(rate) = sum.failure_rate() { div { dt { "Failure rate" } dd { (format!("{:.1} %", rate * 100.0)) } } }
            div { dt { "Archived" } dd { (show::number(sum.archived)) } }
            div { dt { "Lost with a server" } dd { (show::number(sum.lost)) } }
            // The legends of the charts have the values of the last minute.
            @for (name, share) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] { div { dt { (name) } dd { (percentile(&sum.running, share)) } } }
            div { dt { "Wait p95" } dd { (percentile(&sum.waiting, 0.95)) } }
        }
        (chart::attempts(&format!("Attempts in the last {}", title(span)), steps.each, &steps.bars(view, course), &marks))
        (chart::lines("Running time", write, &running, &labels, &marks))
        (chart::times("Running times", &sum.running))
        (chart::lines("Waiting time", write, &waiting, &labels, &marks))
        (chart::times("Waiting times", &sum.waiting))
    })
}

/// The deployments in a span.
pub(super) async fn marks(view: &View, span: Span, steps: &Steps) -> Result<Vec<Mark>, Failed> {
    let deploys = view.inspector.deploys(view.now - span.length()).await?;
    let mark = |(time, version): (_, String)| {
        Some(Mark {
            at: steps.place(time)?,
            text: format!("{version} deployed at {}", view.date(time)),
        })
    };
    Ok(deploys.into_iter().filter_map(mark).collect())
}
