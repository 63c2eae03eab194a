//! What ended over time, by the broker's own statistics.

#[cfg(feature = "prometheus")]
use std::time::Duration;
use std::{cmp::Reverse, collections::HashMap};

use asynqueue_core::{
    broker::{BrokerError, HourStats},
    task::{Name, Timestamp},
};
use axum::extract::Query;
use chrono::Timelike;
use maud::{Markup, html};
use serde::Deserialize;

use super::{Failed, View, each_minute};
use crate::web::{
    chart::{self, Bar},
    links::encoded,
    show,
};

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    span: String,
    queue: Option<String>,
}

/// A time to look back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    name: &'static str,
    title: &'static str,
    each: &'static str,
    hours: u64,
    /// How many hours a bar has; those of a day are divided by it.
    bar: u32,
}

pub(super) const DAY: Span = Span {
    name: "day",
    title: "the last 24 hours",
    each: "in an hour",
    hours: 24,
    bar: 1,
};

const SPANS: [Span; 3] = [
    DAY,
    Span {
        name: "week",
        title: "the last 7 days",
        each: "in four hours",
        hours: 7 * 24,
        bar: 4,
    },
    Span {
        name: "quarter",
        title: "the last 90 days",
        each: "in a day",
        hours: 90 * 24,
        bar: 24,
    },
];

/// How many queues the table has.
const ROWS: usize = 100;

pub(crate) async fn show(view: View, Query(asked): Query<Asked>) -> Result<Markup, Failed> {
    let span = SPANS.into_iter().find(|span| span.name == asked.span);
    let span = span.unwrap_or(DAY);
    let queues = match &asked.queue {
        Some(queue) => vec![Name::from(queue.as_str())],
        None => view.inspector.broker().queues().await?,
    };
    let since = first_hour(&view, span);
    let history = view.inspector.broker().history(&queues, since).await?;
    let bars = bars(&view, span, history.iter().flatten());
    let mut sums: Vec<_> = queues
        .iter()
        .zip(history.iter().map(|hours| sum(hours)))
        .collect();
    sums.sort_by_key(|(_, (succeeded, failed))| Reverse((*failed, *succeeded)));
    let gathered = gathered(&view, span, asked.queue.as_deref()).await;
    let of_queue = asked
        .queue
        .as_ref()
        .map_or(String::new(), |queue| format!("&queue={}", encoded(queue)));
    Ok(view.page("Metrics", html! {
        nav.tabs aria-label="Spans" {
            @for one in SPANS {
                a href=(format!("{}?span={}{of_queue}", view.links.page("charts"), one.name)) aria-current=[(one.name == span.name).then_some("page")] { (one.title) }
            }
        }
        @if let Some(queue) = &asked.queue {
            p.crumbs { "Queue " a href=(view.links.queue(&queue.as_str().into())) { (queue) } " · " a href=(format!("{}?span={}", view.links.page("charts"), span.name)) { "all queues" } }
        } @else { (of_now()) }
        (each_minute(&view, "charts", html! {
            (chart::attempts(span.title, span.each, &bars))
            @if asked.queue.is_none() { (table(&view, span, &sums)) }
            @if sums.len() > ROWS { p.note { "The " (ROWS) " queues with the most failures are shown." } }
            (gathered)
        }))
    }))
}

/// Charts by Prometheus, if there is one.
#[cfg(feature = "prometheus")]
async fn gathered(view: &View, span: Span, queue: Option<&str>) -> Markup {
    use crate::web::prometheus::{PANELS, Unit};

    let Some(prometheus) = &view.shared.prometheus else {
        return html! {};
    };
    let write = |unit| {
        move |value: f64| match unit {
            Unit::Count => show::number(value as u64),
            Unit::Rate => format!("{value:.1}"),
            Unit::Seconds => show::duration(Duration::from_secs_f64(value.clamp(0.0, 1e9))),
        }
    };
    let lines = PANELS
        .iter()
        .map(|panel| prometheus.lines(panel, queue, span.hours, view.now));
    let all = futures_util::future::join_all(lines).await;
    html! {
        h2 { "As Prometheus has gathered it" }
        @for (panel, lines) in PANELS.iter().zip(all) {
            @match lines {
                Ok(lines) => { (chart::lines(panel.title, write(panel.unit), &lines)) },
                Err(why) => { p.error role="alert" { (panel.title) ": " (why) } },
            }
        }
    }
}

#[cfg(not(feature = "prometheus"))]
async fn gathered(_: &View, _: Span, _: Option<&str>) -> Markup {
    html! {}
}

/// Attempts of the last two minutes, which the script draws while one looks.
pub(super) fn of_now() -> Markup {
    html! {
        figure.chart id="recent" {
            figcaption { "Attempts, the last two minutes: " span { "0" } " succeeded, " span { "0" } " failed in the last second." }
            svg viewBox="0 0 1200 100" preserveAspectRatio="none" aria-hidden="true" {}
        }
    }
}

fn table(view: &View, span: Span, sums: &[(&Name, (u64, u64))]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr {
                th scope="col" { "Queue" } th.number scope="col" { "Succeeded" } th.number scope="col" { "Failed" } th.number scope="col" { "Failed of all" }
            } }
            tbody { @for (queue, (succeeded, failed)) in sums.iter().take(ROWS) {
                tr {
                    th scope="row" { a href=(format!("{}?span={}&queue={}", view.links.page("charts"), span.name, encoded(queue))) { (queue) } }
                    td.number { (show::number(*succeeded)) }
                    td.number { (show::number(*failed)) }
                    td.number { @if succeeded + failed > 0 { (format!("{:.1} %", *failed as f64 * 100.0 / (succeeded + failed) as f64)) } }
                }
            } }
        } }
    }
}

fn sum(hours: &[HourStats]) -> (u64, u64) {
    let add = |sum: (u64, u64), hour: &HourStats| (sum.0 + hour.succeeded, sum.1 + hour.failed);
    hours.iter().fold((0, 0), add)
}

fn first_hour(view: &View, span: Span) -> Timestamp {
    let hour = view.now.as_millis() / HourStats::MILLIS + 1;
    Timestamp::from_millis(hour.saturating_sub(span.hours) * HourStats::MILLIS)
}

/// The hours of a span as bars, days as they begin in the zone of who looks.
pub(super) fn bars<'a>(
    view: &View,
    span: Span,
    history: impl Iterator<Item = &'a HourStats>,
) -> Vec<Bar> {
    let mut known: HashMap<u64, (u64, u64)> = HashMap::new();
    for hour in history {
        let known = known.entry(hour.start.as_millis()).or_default();
        *known = (known.0 + hour.succeeded, known.1 + hour.failed);
    }
    let first = first_hour(view, span).as_millis();
    let (mut bars, mut last) = (Vec::<Bar>::new(), None);
    for start in (0..span.hours).map(|hour| first + hour * HourStats::MILLIS) {
        let Some(date) = view.settings.date(Timestamp::from_millis(start)) else {
            continue;
        };
        let place = (date.date_naive(), date.hour() / span.bar);
        if last.replace(place) != Some(place) {
            let form = if span.bar == 24 {
                "%Y-%m-%d"
            } else {
                "%Y-%m-%d %H:%M"
            };
            let label = date.format(form).to_string();
            bars.push(Bar {
                label,
                ..Bar::default()
            });
        }
        if let (Some(bar), Some((succeeded, failed))) = (bars.last_mut(), known.get(&start)) {
            bar.succeeded += succeeded;
            bar.failed += failed;
        }
    }
    bars
}

/// What ended in a queue in the last day.
pub(super) async fn last_day(view: &View, queue: &Name) -> Result<Vec<HourStats>, BrokerError> {
    let (queues, since) = (std::slice::from_ref(queue), first_hour(view, DAY));
    let mut history = view.inspector.broker().history(queues, since).await?;
    Ok(history.pop().unwrap_or_default())
}

/// The chart of the last day.
pub(super) fn of_day<'a>(view: &View, history: impl Iterator<Item = &'a HourStats>) -> Markup {
    let chart = chart::attempts(DAY.title, DAY.each, &bars(view, DAY, history));
    each_minute(view, "day", chart)
}
