//! Attempts over time, from the broker's own statistics.

#[cfg(feature = "prometheus")]
use std::time::Duration;
use std::{cmp::Reverse, collections::HashMap};

use asynqueue_core::{
    broker::HourStats,
    task::{Name, Timestamp},
};
use axum::extract::Query;
use chrono::Timelike;
use maud::{Markup, html};
use serde::Deserialize;

use super::each_minute;
use crate::web::{
    chart::{self, Bar},
    links::encoded,
    reading::history::{A_DAY, first_hour},
    request::{Failed, View},
    show,
};

#[derive(Debug, Deserialize)]
pub(crate) struct Params {
    #[serde(default)]
    span: String,
    queue: Option<String>,
}

/// A time range that ends now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    name: &'static str,
    title: &'static str,
    /// The time that one bar covers, such as `hour`.
    each: &'static str,
    hours: u64,
    /// The hours that one bar covers: a divisor of 24.
    bar: u32,
}

pub(super) const DAY: Span = Span {
    name: "day",
    title: "24 hours",
    each: "hour",
    hours: A_DAY,
    bar: 1,
};

const SPANS: [Span; 3] = [
    DAY,
    Span {
        name: "week",
        title: "7 days",
        each: "4 hours",
        hours: 7 * 24,
        bar: 4,
    },
    Span {
        name: "quarter",
        title: "90 days",
        each: "day",
        hours: 90 * 24,
        bar: 24,
    },
];

/// The maximum number of rows in the table.
const ROWS: usize = 100;

pub(crate) async fn show(view: View, Query(params): Query<Params>) -> Result<Markup, Failed> {
    let span = SPANS.into_iter().find(|span| span.name == params.span);
    let span = span.unwrap_or(DAY);
    let queues = match &params.queue {
        Some(queue) => vec![view.known_queue(queue).await?],
        None => view.inspector.queue_names().await?,
    };
    let since = first_hour(view.now, span.hours);
    let history = view.inspector.history_since(&queues, since).await?;
    let bars = bars(&view, span, history.iter().flatten());
    let mut sums: Vec<_> = queues
        .iter()
        .zip(history.iter().map(|hours| sum(hours)))
        .collect();
    sums.sort_by_key(|(_, (succeeded, failed))| Reverse((*failed, *succeeded)));
    let gathered = gathered(&view, span, params.queue.as_deref()).await;
    let of_queue = params
        .queue
        .as_ref()
        .map_or(String::new(), |queue| format!("&queue={}", encoded(queue)));
    Ok(view.page("Metrics", html! {
        nav.tabs aria-label="Time range" {
            @for one in SPANS {
                a href=(format!("{}?span={}{of_queue}", view.links.page("charts"), one.name)) aria-current=[(one.name == span.name).then_some("page")] { (one.title) }
            }
        }
        @if let Some(queue) = &params.queue {
            p.crumbs { "Queue " a href=(view.links.queue(&queue.as_str().into())) { (queue) } " · " a href=(format!("{}?span={}", view.links.page("charts"), span.name)) { "All queues" } }
        } @else { (of_now()) }
        (each_minute(&view, "charts", html! {
            (attempts(span, &bars))
            @if params.queue.is_none() { (table(&view, span, &sums)) }
            @if sums.len() > ROWS { p.note { "Only the " (show::number(ROWS as u64)) " queues with the most failures are shown." } }
            (gathered)
        }))
    }))
}

/// Charts from Prometheus, if a server is configured.
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
        h2 { "From Prometheus" }
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

/// The attempts of the last two minutes. The script draws them while the page is visible.
pub(super) fn of_now() -> Markup {
    html! {
        figure.chart id="recent" {
            figcaption { "Attempts per second in the last 2 minutes. Now: " span { "0" } " succeeded, " span { "0" } " failed." }
            svg viewBox="0 0 1200 100" preserveAspectRatio="none" aria-hidden="true" {}
        }
    }
}

fn table(view: &View, span: Span, sums: &[(&Name, (u64, u64))]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr {
                th scope="col" { "Queue" } th.number scope="col" { "Succeeded" } th.number scope="col" { "Failed" } th.number scope="col" { "Failure rate" }
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

/// The chart of a time range.
fn attempts(span: Span, bars: &[Bar]) -> Markup {
    chart::attempts(
        &format!("Attempts in the last {}", span.title),
        span.each,
        bars,
    )
}

/// The hours of a time range as bars. Days start at midnight in the time zone of the viewer.
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
    let first = first_hour(view.now, span.hours).as_millis();
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

/// The chart of the last 24 hours.
pub(super) fn of_day<'a>(view: &View, history: impl Iterator<Item = &'a HourStats>) -> Markup {
    let chart = attempts(DAY, &bars(view, DAY, history));
    each_minute(view, "day", chart)
}
