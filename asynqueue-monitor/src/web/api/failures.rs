//! Failures by cause.

use std::collections::BTreeMap;

use asynqueue_core::{
    failure::{self, Failed},
    task::Name,
};
use axum::{Json, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    error::{ApiError, Path},
    jobs::Job,
    time,
};
use crate::web::{
    causes::{known_cause, retry_cause},
    changes::start,
    reading::failures::Row,
    request::View,
};

/// The failures of the last 24 hours.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Failures {
    /// The causes, those with the most failures in the last 15 minutes first.
    causes: Vec<Recent>,
    /// Attempts that were lost with their worker, by queue: their lease expired.
    lost: BTreeMap<String, u64>,
}

/// A cause with its failures of the last 24 hours.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Recent {
    #[serde(flatten)]
    cause: Cause,
    /// The failures of the last 15 minutes.
    recent: Count,
}

/// Failures that have the event, the kind and the message in common.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Cause {
    /// Identifies the cause: the filter `cause=…` matches the tasks whose last failure has it.
    #[schema(example = "1f0c62a8b3d94e57")]
    fingerprint: String,
    event: String,
    /// Such as `error`, `panic` or `timeout`.
    kind: String,
    /// The message without numbers, ids, quoted text, URLs and paths.
    message: String,
    /// The message of one failure.
    example: String,
    /// The task of this example.
    task: Option<Task>,
    /// The failures in each queue.
    queues: BTreeMap<String, Count>,
    #[schema(format = DateTime)]
    first: String,
    #[schema(format = DateTime)]
    last: String,
    /// The failures in each span of time that has any, by its start.
    series: BTreeMap<String, u64>,
}

/// A task.
#[derive(Debug, Serialize, ToSchema)]
struct Task {
    queue: String,
    id: String,
}

/// Failed attempts.
#[derive(Debug, Serialize, ToSchema)]
struct Count {
    failed: u64,
    /// How many of them were the last attempt of their task, which was archived.
    archived: u64,
}

impl From<Failed> for Count {
    fn from(failed: Failed) -> Self {
        Self {
            failed: failed.failed,
            archived: failed.archived,
        }
    }
}

impl From<&failure::Cause> for Cause {
    fn from(cause: &failure::Cause) -> Self {
        let of_queue =
            |(queue, failed): (&Name, &Failed)| (queue.to_string(), Count::from(*failed));
        Self {
            fingerprint: cause.fingerprint.to_string(),
            event: cause.event.to_string(),
            kind: cause.kind.to_string(),
            message: cause.message.clone(),
            example: cause.example.clone(),
            task: cause.task.as_ref().map(|task| Task {
                queue: task.queue.to_string(),
                id: task.id.to_string(),
            }),
            queues: cause.queues.iter().map(of_queue).collect(),
            first: time(cause.first),
            last: time(cause.last),
            series: cause
                .series
                .iter()
                .map(|(start, count)| (time(*start), *count))
                .collect(),
        }
    }
}

/// Lists the causes of the failures of the last 24 hours, with a series by the hour. Servers report every ten seconds.
#[utoipa::path(get, path = "/api/failures", responses((status = 200, description = "The failures.", body = Failures)))]
pub(super) async fn list_failures(view: View) -> Result<Json<Failures>, ApiError> {
    let recent = view.shared.live.failures().await?;
    let cause = |row: &Row| Recent {
        cause: Cause::from(&row.cause),
        recent: row.now.into(),
    };
    Ok(Json(Failures {
        causes: recent.causes.iter().map(cause).collect(),
        lost: recent
            .lost
            .iter()
            .map(|(queue, count)| (queue.to_string(), *count))
            .collect(),
    }))
}

/// A cause with its failures of the last 90 days, and a series by the day.
#[utoipa::path(get, path = "/api/failures/{cause}", params(("cause" = String, Path, example = "1f0c62a8b3d94e57")), responses((status = 200, description = "The cause.", body = Cause)))]
pub(super) async fn get_failure(
    view: View,
    Path(cause): Path<String>,
) -> Result<Json<Cause>, ApiError> {
    let cause = known_cause(&view, &cause).await?;
    Ok(Json(Cause::from(&cause)))
}

/// Starts a job that retries all archived and waiting tasks whose last failure has a cause.
#[utoipa::path(post, path = "/api/failures/{cause}/retry", params(("cause" = String, Path, example = "1f0c62a8b3d94e57")), responses((status = 202, description = "The job starts after the grace period unless it is undone.", body = Job)))]
pub(super) async fn retry_failure(
    view: View,
    Path(cause): Path<String>,
) -> Result<(StatusCode, Json<Job>), ApiError> {
    let cause = known_cause(&view, &cause).await?;
    let job = start(&view, retry_cause(&view, &cause))?;
    Ok((StatusCode::ACCEPTED, Json(Job::from(&job))))
}
