//! Attempts over time, from the broker's own statistics.

#[cfg(feature = "prometheus")]
use std::time::Duration;
use std::{cmp::Reverse, collections::HashMap};

use asynqueue_core::{
    broker::HourStats,
    inspector::Course,
    statistics::{EventStats, Span},
    task::{Name, Timestamp},
};
use axum::extract::Query;
use chrono::Timelike;
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    each_minute,
    events::{chosen, marks, spans},
    steps::{Steps, title},
};
use crate::web::{
    chart::{self, Bar, Mark},
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

/// The maximum number of rows in the table.
const ROWS: usize = 100;

pub(crate) async fn show(view: View, Query(params): Query<Params>) -> Result<Markup, Failed> {
    let span = match &*params.span {
        "" => Span::Day,
        name => chosen(name)?,
    };
    let queue = match &params.queue {
        Some(queue) => Some(view.known_queue(queue).await?),
        None => None,
    };
    let (bars, mut sums) = read(&view, span, queue.as_ref()).await?;
    sums.sort_by_key(|(_, (succeeded, failed))| Reverse((*failed, *succeeded)));
    let steps = Steps::of(span, view.now);
    let marks = marks(&view, span, &steps).await?;
    let gathered = gathered(&view, span, params.queue.as_deref()).await;
    let of_queue = of_queue(queue.as_ref());
    Ok(view.page("Metrics", html! {
        (spans(&view, "charts", span, &of_queue))
        @if let Some(queue) = &params.queue {
            p.crumbs { "Queue " a href=(view.links.queue(&queue.as_str().into())) { (queue) } " · " a href=(format!("{}?span={span}", view.links.page("charts"))) { "All queues" } }
        } @else { (of_now()) }
        (each_minute(&view, "charts", html! {
            (attempts(span, &bars, &marks))
            @if params.queue.is_none() { (table(&view, span, &sums)) }
            @if sums.len() > ROWS { p.note { "Only the " (show::number(ROWS as u64)) " queues with the most failures are shown." } }
            (gathered)
        }))
    }))
}

/// The part of a query for a queue.
fn of_queue(queue: Option<&Name>) -> String {
    queue.map_or(String::new(), |queue| format!("&queue={}", encoded(queue)))
}

/// The succeeded and failed attempts of a queue.
type Sum = (Name, (u64, u64));

/// The attempts over a span, and those of each queue.
async fn read(
    view: &View,
    span: Span,
    queue: Option<&Name>,
) -> Result<(Vec<Bar>, Vec<Sum>), Failed> {
    let inspector = &view.inspector;
    let Some(hours) = hours(span) else {
        let steps = Steps::of(span, view.now);
        let minutes = inspector.minutes_since(queue, steps.since()).await?;
        let bars = steps.bars(view, minutes.values().flatten());
        let sums = minutes
            .into_iter()
            .map(|(queue, course)| (queue, total(&course)));
        return Ok((bars, sums.collect()));
    };
    let queues = match queue {
        Some(queue) => vec![queue.clone()],
        None => inspector.queue_names().await?,
    };
    let since = first_hour(view.now, hours);
    let history = inspector.history_since(&queues, since).await?;
    let bars = bars(view, span, history.iter().flatten());
    let sums = history.iter().map(|hours| sum(hours));
    Ok((bars, queues.into_iter().zip(sums).collect()))
}

/// The hours of a span that is read from the hours of queues. `None` for a span of minutes.
fn hours(span: Span) -> Option<u64> {
    match span {
        Span::QuarterHour | Span::Hour | Span::SixHours => None,
        span => Some(span.length().as_secs() / 3_600),
    }
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
        .map(|panel| prometheus.lines(panel, queue, span.length(), view.now));
    let all = futures_util::future::join_all(lines).await;
    let labels = Steps::of(span, view.now).labels(view);
    html! {
        h2 { "From Prometheus" }
        @for (panel, lines) in PANELS.iter().zip(all) {
            @match lines {
                Ok(lines) => { (chart::lines(panel.title, write(panel.unit), &lines, &labels, &[])) },
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

fn table(view: &View, span: Span, sums: &[Sum]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr {
                th scope="col" { "Queue" } th.number scope="col" { "Succeeded" } th.number scope="col" { "Failed" } th.number scope="col" { "Failure rate" }
            } }
            tbody { @for (queue, (succeeded, failed)) in sums.iter().take(ROWS) {
                tr {
                    th scope="row" { a href=(format!("{}?span={span}{}", view.links.page("charts"), of_queue(Some(queue)))) { (queue) } }
                    td.number { (show::number(*succeeded)) }
                    td.number { (show::number(*failed)) }
                    td.number { @if succeeded + failed > 0 { (format!("{:.1} %", *failed as f64 * 100.0 / (succeeded + failed) as f64)) } }
                }
            } }
        } }
    }
}

/// The attempts of all times.
fn total(course: &Course) -> (u64, u64) {
    let add = |sum: (u64, u64), (_, stats): &(_, EventStats)| {
        (sum.0 + stats.succeeded, sum.1 + stats.failed)
    };
    course.iter().fold((0, 0), add)
}

fn sum(hours: &[HourStats]) -> (u64, u64) {
    let add = |sum: (u64, u64), hour: &HourStats| (sum.0 + hour.succeeded, sum.1 + hour.failed);
    hours.iter().fold((0, 0), add)
}

/// The chart of a time range.
fn attempts(span: Span, bars: &[Bar], marks: &[Mark]) -> Markup {
    let each = match span {
        Span::Quarter => "day",
        span => Steps::of(span, Timestamp::default()).each,
    };
    let title = format!("Attempts in the last {}", title(span));
    chart::attempts(&title, each, bars, marks)
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
    let (hours, each) = match span {
        Span::Quarter => (90 * 24, 24),
        Span::Week => (7 * 24, 4),
        _ => (A_DAY, 1),
    };
    let first = first_hour(view.now, hours).as_millis();
    let (mut bars, mut last) = (Vec::<Bar>::new(), None);
    for start in (0..hours).map(|hour| first + hour * HourStats::MILLIS) {
        let Some(date) = view.settings.date(Timestamp::from_millis(start)) else {
            continue;
        };
        let place = (date.date_naive(), date.hour() / each);
        if last.replace(place) != Some(place) {
            let form = if each == 24 {
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

/// The chart of the last 24 hours, of a queue if one is given, with links to the same chart over other spans.
pub(super) fn of_day<'a>(
    view: &View,
    queue: Option<&Name>,
    history: impl Iterator<Item = &'a HourStats>,
) -> Markup {
    let chart = attempts(Span::Day, &bars(view, Span::Day, history), &[]);
    let of_queue = of_queue(queue);
    let others = Span::ALL.into_iter().filter(|span| *span != Span::Day);
    html! {
        div {
            (each_minute(view, "day", chart))
            nav.sorts aria-label="Other time ranges" {
                "The last "
                @for (place, span) in others.enumerate() {
                    @if place > 0 { " · " }
                    a href=(format!("{}?span={span}{of_queue}", view.links.page("charts"))) { (title(span)) }
                }
            }
        }
    }
}
