//! Queues.

use std::collections::BTreeMap;

use asynqueue_core::{GroupInfo, HourStats, TaskState, Timestamp, inspector::QueueInfo};
use axum::{Json, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    error::{ApiError, Path, Query},
    millis, time,
};
use crate::web::{actions::audit, pages::View};

/// One queue.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Queue {
    name: String,
    /// Whether leasing is stopped.
    paused: bool,
    /// How many tasks are in each state.
    tasks: BTreeMap<&'static str, u64>,
    /// How long the task that is next has been pending, in milliseconds.
    latency_ms: u64,
    /// Attempts that succeeded, ever.
    succeeded: u64,
    /// Attempts that failed, ever.
    failed: u64,
    /// Attempts that succeeded since midnight, UTC.
    succeeded_today: u64,
    /// Attempts that failed since midnight, UTC.
    failed_today: u64,
    /// Archived tasks that were deleted because there were more than `archived_max`, ever.
    trimmed_by_count: u64,
    /// Archived tasks that were deleted because they were older than is kept, ever.
    trimmed_by_age: u64,
    /// When an archived task was last deleted for either reason.
    #[schema(format = DateTime)]
    last_trimmed: Option<String>,
    /// How many archived tasks it may have before the oldest are deleted, once a server has trimmed it.
    archived_max: Option<u64>,
    /// About how many bytes it takes, where the storage can tell.
    memory_bytes: Option<u64>,
    /// Where the storage keeps it, such as `slot 1234` of a Redis Cluster.
    place: Option<String>,
}

impl From<&QueueInfo> for Queue {
    fn from(info: &QueueInfo) -> Self {
        let counts = TaskState::ALL.map(|state| (state.as_str(), info.stats.count(state)));
        Self {
            name: info.name.to_string(),
            paused: info.stats.paused,
            tasks: BTreeMap::from(counts),
            latency_ms: millis(info.stats.latency),
            succeeded: info.stats.succeeded,
            failed: info.stats.failed,
            succeeded_today: info.today.succeeded,
            failed_today: info.today.failed,
            trimmed_by_count: info.stats.archive.trimmed_by_count,
            trimmed_by_age: info.stats.archive.trimmed_by_age,
            last_trimmed: info.stats.archive.last_trimmed.map(time),
            archived_max: info.stats.archive.max,
            memory_bytes: info.memory,
            place: info.place.clone(),
        }
    }
}

/// What ended in one hour.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Hour {
    /// When the hour began.
    #[schema(format = DateTime)]
    start: String,
    succeeded: u64,
    failed: u64,
}

/// Tasks that wait for one another, to become one.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Group {
    event: String,
    /// Empty for the group of all that name none.
    name: String,
    /// How often its tasks have failed to become one; such tasks are set apart from their group.
    tries: u32,
    /// How many tasks wait in it.
    size: u64,
    /// Since when the oldest does.
    #[schema(format = DateTime)]
    oldest: String,
    #[schema(format = DateTime)]
    due: String,
}

impl From<GroupInfo> for Group {
    fn from(info: GroupInfo) -> Self {
        Self {
            event: info.event.to_string(),
            name: info.name.to_string(),
            tries: info.tries,
            size: info.size,
            oldest: time(info.oldest),
            due: time(info.due),
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Force {
    /// Delete its tasks too.
    #[serde(default)]
    force: bool,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Span {
    /// How many hours to go back, this one too.
    #[serde(default = "a_day")]
    #[param(minimum = 1, maximum = 2160, default = 24)]
    hours: u64,
}

fn a_day() -> u64 {
    24
}

/// All queues that have had a task, by name.
#[utoipa::path(get, path = "/api/queues", responses((status = 200, description = "The queues.", body = Vec<Queue>)))]
pub(super) async fn list_queues(view: View) -> Result<Json<Vec<Queue>>, ApiError> {
    let seen = view.shared.live.now().await?;
    Ok(Json(seen.queues.iter().map(Queue::from).collect()))
}

/// One queue.
#[utoipa::path(get, path = "/api/queues/{queue}", params(("queue" = String, Path, example = "mail")), responses((status = 200, description = "The queue.", body = Queue)))]
pub(super) async fn get_queue(
    view: View,
    Path(queue): Path<String>,
) -> Result<Json<Queue>, ApiError> {
    let queue = view.known_queue(queue).await?;
    let info = view.inspector.queue(&queue).await?;
    Ok(Json(Queue::from(&info)))
}

/// Deletes a queue: only if it has no tasks, unless that is forced.
#[utoipa::path(delete, path = "/api/queues/{queue}", params(("queue" = String, Path, example = "mail"), Force), responses(
    (status = 204, description = "It is deleted."),
    (status = 409, description = "It has tasks.", body = super::error::Error, content_type = "application/json")
))]
pub(super) async fn delete_queue(
    view: View,
    Path(queue): Path<String>,
    Query(asked): Query<Force>,
) -> Result<StatusCode, ApiError> {
    let queue = view.known_queue(queue).await?;
    if !view.inspector.delete_queue(&queue, asked.force).await? {
        let why = format!("queue `{queue}` has tasks: delete them first, or say `force=true`");
        return Err(ApiError::new(StatusCode::CONFLICT, why));
    }
    audit(&view, "delete", &queue, "deleted");
    Ok(StatusCode::NO_CONTENT)
}

/// Stops leasing from a queue; what runs goes on.
#[utoipa::path(post, path = "/api/queues/{queue}/pause", params(("queue" = String, Path, example = "mail")), responses((status = 204, description = "It is paused.")))]
pub(super) async fn pause_queue(
    view: View,
    Path(queue): Path<String>,
) -> Result<StatusCode, ApiError> {
    let queue = view.known_queue(queue).await?;
    view.inspector.pause(std::slice::from_ref(&queue)).await?;
    audit(&view, "pause", &queue, "paused");
    Ok(StatusCode::NO_CONTENT)
}

/// Lets servers lease from a queue again.
#[utoipa::path(post, path = "/api/queues/{queue}/resume", params(("queue" = String, Path, example = "mail")), responses((status = 204, description = "It goes on.")))]
pub(super) async fn resume_queue(
    view: View,
    Path(queue): Path<String>,
) -> Result<StatusCode, ApiError> {
    let queue = view.known_queue(queue).await?;
    view.inspector.resume(std::slice::from_ref(&queue)).await?;
    audit(&view, "resume", &queue, "resumed");
    Ok(StatusCode::NO_CONTENT)
}

/// How many attempts ended in each hour, oldest first; hours without any are left out.
#[utoipa::path(get, path = "/api/queues/{queue}/history", params(("queue" = String, Path, example = "mail"), Span), responses((status = 200, description = "The hours.", body = Vec<Hour>)))]
pub(super) async fn queue_history(
    view: View,
    Path(queue): Path<String>,
    Query(Span { hours }): Query<Span>,
) -> Result<Json<Vec<Hour>>, ApiError> {
    if !(1..=HourStats::KEPT).contains(&hours) {
        let kept = HourStats::KEPT;
        return Err(ApiError::bad(format!(
            "`hours` is {hours}: expected 1 to {kept}"
        )));
    }
    let queue = view.known_queue(queue).await?;
    let now = view.now.as_millis() / HourStats::MILLIS;
    let since = Timestamp::from_millis((now + 1).saturating_sub(hours) * HourStats::MILLIS);
    let history = view.inspector.broker().history(&[queue], since).await?;
    let hour = |hour: HourStats| Hour {
        start: time(hour.start),
        succeeded: hour.succeeded,
        failed: hour.failed,
    };
    Ok(Json(history.into_iter().flatten().map(hour).collect()))
}

/// Groups of tasks that wait for one another: no more than 1,000, those that are due first first.
#[utoipa::path(get, path = "/api/queues/{queue}/groups", params(("queue" = String, Path, example = "mail")), responses((status = 200, description = "The groups.", body = Vec<Group>)))]
pub(super) async fn queue_groups(
    view: View,
    Path(queue): Path<String>,
) -> Result<Json<Vec<Group>>, ApiError> {
    let queue = view.known_queue(queue).await?;
    let groups = view.inspector.groups(&queue, 1_000).await?;
    Ok(Json(groups.into_iter().map(Group::from).collect()))
}
