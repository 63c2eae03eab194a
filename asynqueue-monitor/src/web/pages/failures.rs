//! The causes of failures, and one of them.

use asynqueue_core::{
    broker::HourStats,
    failure::{Cause, Failed},
    inspector::Filter,
    task::{Name, TaskState, Timestamp},
};
use axum::{
    extract::{Path, Query},
    response::Redirect,
};
use maud::{Markup, html};
use serde::Deserialize;

use super::each_minute;
use crate::web::{
    attention::Place,
    causes::{known_cause, retry_cause},
    changes::start,
    chart,
    reading::failures::{Recent, Row},
    request::{Failed as Refused, View},
    show,
};

/// The maximum number of listed causes.
const ROWS: usize = 100;

/// The number of queues that a row names.
const QUEUES: usize = 3;

#[derive(Debug, Deserialize)]
pub(crate) struct Params {
    did: Option<String>,
}

pub(crate) async fn show(view: View) -> Result<Markup, Refused> {
    let recent = view.shared.live.failures().await?;
    Ok(view.page("Failures", each_minute(&view, "failures", html! {
        @if recent.causes.is_empty() {
            p.empty { "No attempt has failed in the last 24 hours." }
        } @else {
            (table(&view, &recent))
            @if recent.causes.len() > ROWS { p.note { "Only the " (show::number(ROWS as u64)) " causes with the most failures are shown." } }
        }
        (lost(&view, &recent))
        p.note { "Servers report failures every 10 seconds. The last failure is dated to the minute, and after 15 minutes to the hour. Numbers, ids, quoted text, URLs and paths are left out of a cause." }
    })))
}

fn table(view: &View, recent: &Recent) -> Markup {
    let midnight = midnight(view);
    html! {
        div.scroll { table.causes {
            thead { tr {
                th scope="col" { "Cause" }
                th.number scope="col" { "Last 15 min" } th.number scope="col" { "Today" }
                th scope="col" { "Last 24 hours" } th scope="col" { "Queues" } th scope="col" { "First" } th scope="col" { "Last" }
            } }
            tbody { @for row in recent.causes.iter().take(ROWS) {
                @let cause = &row.cause;
                tr {
                    th scope="row" {
                        a href=(page_of(view, cause)) { (cause.event) } " "
                        span.kind { (cause.kind) } " "
                        span.message { (show::cut(&cause.message)) }
                    }
                    td.number { (show::number(row.now.failed)) }
                    td.number { (show::number(row.since(midnight))) }
                    td { (sparkline(view, row)) }
                    td { (queues(view, cause)) }
                    td { (view.time(cause.first)) }
                    td { (view.time(cause.last)) }
                }
            } }
        } }
    }
}

fn page_of(view: &View, cause: &Cause) -> String {
    Place::Cause(cause.fingerprint).url(&view.links)
}

/// The queues of a cause, each with a link to its tasks.
fn queues(view: &View, cause: &Cause) -> Markup {
    html! {
        @for (place, (queue, failed)) in cause.queues.iter().take(QUEUES).enumerate() {
            @if place > 0 { ", " }
            a href=(tasks_of(view, cause, queue, *failed)) { (queue) }
        }
        @if let Some(more @ 1..) = cause.queues.len().checked_sub(QUEUES) { " and " (show::number(more as u64)) " more" }
    }
}

/// The tasks of a cause in a queue, where most of them are.
fn tasks_of(view: &View, cause: &Cause, queue: &Name, failed: Failed) -> String {
    let state = match failed.archived * 2 >= failed.failed {
        true => TaskState::Archived,
        false => TaskState::Retry,
    };
    in_state(view, cause, queue, state)
}

fn in_state(view: &View, cause: &Cause, queue: &Name, state: TaskState) -> String {
    let place = Place::Tasks {
        queue: queue.clone(),
        state,
        filter: Filter::default().cause(cause.fingerprint).into(),
    };
    place.url(&view.links)
}

/// The last midnight in the time zone of the viewer.
fn midnight(view: &View) -> Timestamp {
    let start = || {
        let today = view
            .settings
            .date(view.now)?
            .date_naive()
            .and_hms_opt(0, 0, 0)?;
        let start = today.and_local_timezone(view.settings.zone).earliest()?;
        u64::try_from(start.timestamp_millis()).ok()
    };
    start().map_or(view.now, Timestamp::from_millis)
}

/// The failures of each hour of the last day.
fn sparkline(view: &View, row: &Row) -> Markup {
    let hour = view.now.as_millis() / HourStats::MILLIS;
    let counts: Vec<_> = (0..24)
        .map(|place| {
            let start =
                Timestamp::from_millis((hour + 1 + place).saturating_sub(24) * HourStats::MILLIS);
            (
                start,
                row.cause.series.get(&start).copied().unwrap_or_default(),
            )
        })
        .collect();
    let label = |time: Timestamp| {
        let date = view.settings.date(time);
        date.map(|date| date.format("%H:%M").to_string())
            .unwrap_or_default()
    };
    chart::sparkline(
        counts
            .into_iter()
            .map(|(start, count)| (label(start), count)),
    )
}

/// The attempts that were lost with their worker. They are not failures of a handler.
fn lost(view: &View, recent: &Recent) -> Markup {
    html! {
        @if !recent.lost.is_empty() {
            h2 { "Attempts lost with their worker" }
            p.note { "In the last 24 hours. Their lease expired, so nothing is known about them. The tasks run again." }
            ul { @for (queue, count) in &recent.lost {
                li { a href=(view.links.queue(queue)) { (queue) } ": " (show::number(*count)) }
            } }
        }
    }
}

pub(crate) async fn one(
    view: View,
    Path(cause): Path<String>,
    Query(params): Query<Params>,
) -> Result<Markup, Refused> {
    let cause = known_cause(&view, &cause).await?;
    let recent = view.shared.live.failures().await?;
    let row = recent
        .causes
        .iter()
        .find(|row| row.cause.fingerprint == cause.fingerprint);
    let failed = cause.failed();
    let now = row.map(|row| row.now).unwrap_or_default();
    Ok(view.page(cause.event.as_str(), html! {
        (view.notice(params.did.as_deref()))
        p.crumbs { a href=(view.links.page("failures")) { "Failures" } }
        p.message { span.kind { (cause.kind) } " " (cause.message) }
        @if view.may_change() {
            form.actions method="post" action=(page_of(&view, &cause)) {
                button name="do" value="retry" data-confirm="Retry all tasks that failed for this cause?" { "Retry all of these" }
                span.note { "Archived and waiting tasks whose last failure has this cause." }
            }
        }
        dl.figures {
            div { dt { "Last 15 min" } dd { (show::number(now.failed)) } }
            @if let Some(row) = row { div { dt { "Today" } dd { (show::number(row.since(midnight(&view)))) } } }
            div { dt { "Last 90 days" } dd { (show::number(failed.failed)) } }
            div { dt { "Were archived" } dd { (show::number(failed.archived)) } }
        }
        dl.facts {
            dt { "First" } dd { (view.time(cause.first)) " · " (view.date(cause.first)) }
            dt { "Last" } dd { (view.time(cause.last)) " · " (view.date(cause.last)) }
            @if let Some(task) = &cause.task { dt { "Example" } dd { a.id href=(view.links.task(task)) { (task.id) } } }
            dt { "Filter" } dd { code { "cause=" (cause.fingerprint) } }
        }
        pre { (cause.example) }
        @if let Some(row) = row { (hours(&view, row)) }
        h2 { "Tasks" }
        div.scroll { table {
            thead { tr { th scope="col" { "Queue" } th.number scope="col" { "Failures" } th.number scope="col" { "Were archived" } th scope="col" { "Show" } } }
            tbody { @for (queue, failed) in &cause.queues {
                tr {
                    th scope="row" { a href=(view.links.queue(queue)) { (queue) } }
                    td.number { (show::number(failed.failed)) }
                    td.number { (show::number(failed.archived)) }
                    td {
                        a href=(in_state(&view, &cause, queue, TaskState::Archived)) { "Archived" } " · "
                        a href=(in_state(&view, &cause, queue, TaskState::Retry)) { "Waiting for retry" }
                    }
                }
            } }
        } }
    }))
}

/// The chart of the last day.
fn hours(view: &View, row: &Row) -> Markup {
    let total = show::number(row.cause.failed().failed);
    html! {
        figure.chart {
            figcaption { (total) " failures in the last 24 hours, by the hour." }
            (sparkline(view, row))
            div.axis aria-hidden="true" { span { "24 hours ago" } span { "now" } }
        }
    }
}

/// Starts a job that retries all tasks of a cause.
pub(crate) async fn retry(view: View, Path(cause): Path<String>) -> Result<Redirect, Refused> {
    let cause = known_cause(&view, &cause).await?;
    let spec = retry_cause(&view, &cause);
    Ok(Redirect::to(&start(&view, spec)?.page))
}
