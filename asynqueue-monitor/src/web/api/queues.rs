//! Queues.

use std::collections::BTreeMap;

use asynqueue_core::{
    broker::{GroupInfo, HourStats},
    inspector::{ActionKind, QueueInfo},
    task::TaskState,
};
use axum::{Json, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    error::{ApiError, Path, Query},
    millis, time,
};
use crate::web::{
    changes::audit,
    reading::history::{A_DAY, last_hours},
    request::{Failed, View},
};

/// One queue.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Queue {
    name: String,
    /// Whether leasing from the queue is paused.
    paused: bool,
    /// The number of tasks in each state.
    tasks: BTreeMap<&'static str, u64>,
    /// How long the next task has been pending, in milliseconds.
    latency_ms: u64,
    /// Total number of attempts that succeeded.
    succeeded: u64,
    /// Total number of attempts that failed. Lost attempts are not among them.
    failed: u64,
    /// Total number of attempts that were lost with their server.
    lost: u64,
    /// Number of attempts that succeeded since midnight UTC.
    succeeded_today: u64,
    /// Number of attempts that failed since midnight UTC.
    failed_today: u64,
    /// Number of attempts that were lost with their server since midnight UTC.
    lost_today: u64,
    /// Total number of archived tasks that were deleted because there were more than `archived_max`.
    trimmed_by_count: u64,
    /// Total number of archived tasks that were deleted because they exceeded the age limit.
    trimmed_by_age: u64,
    /// When an archived task was last deleted for either reason.
    #[schema(format = DateTime)]
    last_trimmed: Option<String>,
    /// The maximum number of archived tasks before the oldest are deleted. Null until a server has trimmed the queue.
    archived_max: Option<u64>,
    /// The approximate size in bytes, if the store reports it.
    memory_bytes: Option<u64>,
    /// The location in the store, such as `slot 1234`, if the store distributes queues.
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
            lost: info.stats.lost,
            succeeded_today: info.today.succeeded,
            failed_today: info.today.failed,
            lost_today: info.today.lost,
            trimmed_by_count: info.stats.archive.trimmed_by_count,
            trimmed_by_age: info.stats.archive.trimmed_by_age,
            last_trimmed: info.stats.archive.last_trimmed.map(time),
            archived_max: info.stats.archive.max,
            memory_bytes: info.memory,
            place: info.place.clone(),
        }
    }
}

/// The attempts that ended in one hour.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Hour {
    /// The start of the hour.
    #[schema(format = DateTime)]
    start: String,
    succeeded: u64,
    failed: u64,
    /// Attempts that were lost with their server.
    lost: u64,
}

/// A group of tasks that wait to be aggregated into one task.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Group {
    event: String,
    /// Empty for the group of tasks without a group name.
    name: String,
    /// How often aggregation of these tasks has failed. Failed tasks are kept apart from the rest of their group.
    tries: u32,
    /// The number of waiting tasks.
    size: u64,
    /// When the oldest task joined the group.
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
    /// Also delete the tasks of the queue.
    #[serde(default)]
    force: bool,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Span {
    /// How many hours to return, including the current one.
    #[serde(default = "a_day")]
    #[param(minimum = 1, maximum = 2160, default = 24)]
    hours: u64,
}

fn a_day() -> u64 {
    A_DAY
}

/// Lists all queues by name. A queue is listed once it has had a task.
#[utoipa::path(get, path = "/api/queues", responses((status = 200, description = "The queues.", body = Vec<Queue>)))]
pub(super) async fn list_queues(view: View) -> Result<Json<Vec<Queue>>, ApiError> {
    let snapshot = view.shared.live.now().await?;
    Ok(Json(snapshot.queues.iter().map(Queue::from).collect()))
}

/// Returns one queue.
#[utoipa::path(get, path = "/api/queues/{queue}", params(("queue" = String, Path, example = "mail")), responses((status = 200, description = "The queue.", body = Queue)))]
pub(super) async fn get_queue(
    view: View,
    Path(queue): Path<String>,
) -> Result<Json<Queue>, ApiError> {
    let queue = view.known_queue(&queue).await?;
    let info = view.inspector.queue(&queue).await?;
    Ok(Json(Queue::from(&info)))
}

/// Deletes a queue. A queue with tasks is deleted only with `force=true`.
#[utoipa::path(delete, path = "/api/queues/{queue}", params(("queue" = String, Path, example = "mail"), Force), responses(
    (status = 204, description = "The queue is deleted."),
    (status = 409, description = "The queue has tasks.", body = super::error::Error, content_type = "application/json")
))]
pub(super) async fn delete_queue(
    view: View,
    Path(queue): Path<String>,
    Query(params): Query<Force>,
) -> Result<StatusCode, ApiError> {
    let queue = view.known_queue(&queue).await?;
    if !view.inspector.delete_queue(&queue, params.force).await? {
        let why = format!("queue `{queue}` has tasks: delete them first, or set `force=true`");
        return Err(Failed::Conflict(why).into());
    }
    audit(&view, ActionKind::Delete.as_str(), &queue, "deleted");
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PauseReason {
    /// Why it is paused. Pages show it until it is resumed.
    #[serde(default)]
    pub(super) reason: String,
}

/// Pauses a queue: servers stop leasing from it. Running tasks continue.
#[utoipa::path(post, path = "/api/queues/{queue}/pause", params(("queue" = String, Path, example = "mail"), PauseReason), responses((status = 204, description = "The queue is paused.")))]
pub(super) async fn pause_queue(
    view: View,
    Path(queue): Path<String>,
    Query(PauseReason { reason }): Query<PauseReason>,
) -> Result<StatusCode, ApiError> {
    let queue = view.known_queue(&queue).await?;
    let queues = std::slice::from_ref(&queue);
    view.inspector.pause_because(queues, reason).await?;
    audit(&view, ActionKind::Pause.as_str(), &queue, "paused");
    Ok(StatusCode::NO_CONTENT)
}

/// Resumes a queue: servers lease from it again.
#[utoipa::path(post, path = "/api/queues/{queue}/resume", params(("queue" = String, Path, example = "mail")), responses((status = 204, description = "The queue is resumed.")))]
pub(super) async fn resume_queue(
    view: View,
    Path(queue): Path<String>,
) -> Result<StatusCode, ApiError> {
    let queue = view.known_queue(&queue).await?;
    view.inspector.resume(std::slice::from_ref(&queue)).await?;
    audit(&view, ActionKind::Resume.as_str(), &queue, "resumed");
    Ok(StatusCode::NO_CONTENT)
}

/// Returns the attempts that ended in each hour, oldest first. Hours without attempts are omitted.
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
    let queue = view.known_queue(&queue).await?;
    let history = last_hours(&view.inspector, &queue, hours).await?;
    let hour = |hour: HourStats| Hour {
        start: time(hour.start),
        succeeded: hour.succeeded,
        failed: hour.failed,
        lost: hour.lost,
    };
    Ok(Json(history.into_iter().map(hour).collect()))
}

/// Lists groups of tasks that wait for aggregation: at most 1,000, earliest due first.
#[utoipa::path(get, path = "/api/queues/{queue}/groups", params(("queue" = String, Path, example = "mail")), responses((status = 200, description = "The groups.", body = Vec<Group>)))]
pub(super) async fn queue_groups(
    view: View,
    Path(queue): Path<String>,
) -> Result<Json<Vec<Group>>, ApiError> {
    let queue = view.known_queue(&queue).await?;
    let groups = view.inspector.groups(&queue, 1_000).await?;
    Ok(Json(groups.into_iter().map(Group::from).collect()))
}
