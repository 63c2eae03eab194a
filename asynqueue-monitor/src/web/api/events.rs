//! Statistics by event.

use asynqueue_core::{
    statistics::{EventStats, Histogram, Span},
    task::Name,
};
use axum::Json;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    error::{ApiError, Path, Query},
    time,
};
use crate::web::request::View;

/// A span of time that ends now.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
enum SpanName {
    #[serde(rename = "15m")]
    QuarterHour,
    #[default]
    #[serde(rename = "1h")]
    Hour,
    #[serde(rename = "6h")]
    SixHours,
    #[serde(rename = "24h")]
    Day,
    #[serde(rename = "7d")]
    Week,
    #[serde(rename = "90d")]
    Quarter,
}

/// The span of time to look at.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Params {
    /// Default: `1h`.
    #[param(inline)]
    #[serde(default)]
    span: SpanName,
}

impl Params {
    fn span(&self) -> Span {
        match self.span {
            SpanName::QuarterHour => Span::QuarterHour,
            SpanName::Hour => Span::Hour,
            SpanName::SixHours => Span::SixHours,
            SpanName::Day => Span::Day,
            SpanName::Week => Span::Week,
            SpanName::Quarter => Span::Quarter,
        }
    }
}

/// The attempts of an event.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventFigures {
    /// Empty for all events beyond the first 1,000 of a queue.
    event: String,
    #[serde(flatten)]
    figures: Figures,
}

/// Attempts in some time.
#[derive(Debug, Serialize, ToSchema)]
struct Figures {
    started: u64,
    succeeded: u64,
    failed: u64,
    archived: u64,
    /// Attempts that were lost with their server.
    lost: u64,
    /// The share of attempts that failed, among those that ended. `null` without any.
    failure_rate: Option<f64>,
    running: Times,
    waiting: Times,
}

/// Percentiles in milliseconds. `null` if nothing was measured.
#[derive(Debug, Serialize, ToSchema)]
struct Times {
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
}

/// The attempts of an event over time.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Course {
    /// By the minute up to six hours, by the hour up to a week, otherwise by the day of UTC. Times without attempts are
    /// left out.
    points: Vec<Step>,
    /// How long handlers ran.
    running: Vec<Bucket>,
    /// How long tasks were pending.
    waiting: Vec<Bucket>,
}

/// The attempts that started or ended at a time.
#[derive(Debug, Serialize, ToSchema)]
struct Step {
    #[schema(format = DateTime)]
    at: String,
    #[serde(flatten)]
    figures: Figures,
}

/// How many times were measured from a time to another.
#[derive(Debug, Serialize, ToSchema)]
struct Bucket {
    from_us: u64,
    to_us: u64,
    count: u64,
}

impl Figures {
    fn new(stats: &EventStats) -> Self {
        Self {
            started: stats.started,
            succeeded: stats.succeeded,
            failed: stats.failed,
            archived: stats.archived,
            lost: stats.lost,
            failure_rate: stats.failure_rate(),
            running: Times::new(&stats.running),
            waiting: Times::new(&stats.waiting),
        }
    }
}

impl Times {
    fn new(times: &Histogram) -> Self {
        // To the microsecond: many handlers take less than a millisecond.
        let millis = |time: std::time::Duration| time.as_micros() as f64 / 1_000.0;
        let percentile = |share| times.percentile(share).map(millis);
        Self {
            p50_ms: percentile(0.5),
            p95_ms: percentile(0.95),
            p99_ms: percentile(0.99),
        }
    }
}

fn buckets(times: &Histogram) -> Vec<Bucket> {
    let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let bucket = |(from, to, count)| Bucket {
        from_us: micros(from),
        to_us: micros(to),
        count,
    };
    times.buckets().map(bucket).collect()
}

/// The attempts of each event in a span of time, by event.
#[utoipa::path(get, path = "/api/events", tag = "events", params(Params), responses((status = 200, body = Vec<EventFigures>)))]
pub(super) async fn list_events(
    view: View,
    Query(params): Query<Params>,
) -> Result<Json<Vec<EventFigures>>, ApiError> {
    let stats = view.inspector.event_stats(None, params.span()).await?;
    let event = |(event, stats): (Name, EventStats)| EventFigures {
        event: event.to_string(),
        figures: Figures::new(&stats),
    };
    Ok(Json(stats.into_iter().map(event).collect()))
}

/// The attempts of one event over time. An unknown event has none.
#[utoipa::path(get, path = "/api/events/{event}", tag = "events", params(("event" = String, Path), Params), responses((status = 200, body = Course)))]
pub(super) async fn event_course(
    view: View,
    Path(event): Path<String>,
    Query(params): Query<Params>,
) -> Result<Json<Course>, ApiError> {
    let (event, span) = (Name::from(event), params.span());
    let course = view.inspector.event_course(&event, span).await?;
    let mut sum = EventStats::default();
    course.iter().for_each(|(_, stats)| sum.merge(stats));
    let step = |(at, stats): &(_, EventStats)| Step {
        at: time(*at),
        figures: Figures::new(stats),
    };
    Ok(Json(Course {
        points: course.iter().map(step).collect(),
        running: buckets(&sum.running),
        waiting: buckets(&sum.waiting),
    }))
}
