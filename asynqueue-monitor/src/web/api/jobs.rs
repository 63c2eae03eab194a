//! Jobs: bulk changes that start after a grace period in which they can be undone.

use std::sync::Arc;

use asynqueue_core::inspector::{ActionKind, Filter};
use axum::{Json, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    error::{ApiError, Body, Path},
    tasks::{REASON, State, task_actions},
};
use crate::web::{
    changes::{action, all_matching, audit, start},
    jobs,
    request::View,
};

/// A bulk change of the matching tasks of a queue in one state.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "action": "retry", "state": "archived", "filter": "error~timeout" }))]
pub(super) struct Order {
    #[schema(schema_with = task_actions)]
    action: ActionKind,
    #[schema(inline)]
    state: State,
    /// Terms such as `event=email:*`. Without terms, all tasks match.
    #[serde(default)]
    filter: String,
    /// The new payload, for `edit`.
    #[serde(default)]
    payload: Option<Value>,
    /// The destination queue, for `move`.
    #[serde(default)]
    queue: Option<String>,
}

/// A bulk change.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Job {
    /// Unique among all processes that serve a monitor.
    id: String,
    /// The description and progress, in words.
    text: String,
    /// Whether the job has ended.
    ended: bool,
    /// Whether it ended with an error.
    failed: bool,
}

impl From<&Arc<jobs::Job>> for Job {
    fn from(job: &Arc<jobs::Job>) -> Self {
        Self {
            id: job.id.clone(),
            text: job.text(),
            ended: job.has_ended(),
            failed: job.has_failed(),
        }
    }
}

/// Starts a job that changes all matching tasks of a queue in one state.
#[utoipa::path(post, path = "/api/queues/{queue}/jobs", params(("queue" = String, Path, example = "mail")), request_body = Order, responses((status = 202, description = "The job starts after the grace period unless it is undone.", body = Job)))]
pub(super) async fn begin_job(
    view: View,
    Path(queue): Path<String>,
    Body(order): Body<Order>,
) -> Result<(StatusCode, Json<Job>), ApiError> {
    let filter: Filter = order.filter.parse()?;
    let action = action(order.action, REASON, order.payload, order.queue)?;
    let (queue, state) = (view.known_queue(&queue).await?, order.state.into());
    let spec = all_matching(&view, action, &queue, state, filter)?;
    let job = start(&view, spec)?;
    Ok((StatusCode::ACCEPTED, Json(Job::from(&job))))
}

/// Lists jobs that wait, run or ended in the last minute, newest first.
#[utoipa::path(get, path = "/api/jobs", responses((status = 200, description = "The jobs.", body = Vec<Job>)))]
pub(super) async fn list_jobs(view: View) -> Json<Vec<Job>> {
    let shown = view.shared.jobs.shown();
    Json(shown.iter().map(Job::from).collect())
}

/// Undoes a waiting job or stops a running one. An ended job is unchanged.
#[utoipa::path(delete, path = "/api/jobs/{id}", params(("id" = String, Path, example = "web-1-4711-9f3c-1")), responses((status = 202, description = "The job is stopping or has ended.", body = Job)))]
pub(super) async fn stop_job(
    view: View,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Job>), ApiError> {
    let job = view.shared.jobs.get(&id).map_err(ApiError::not_found)?;
    job.stop();
    audit(&view, "stop", &format!("job {id}"), &job.text());
    Ok((StatusCode::ACCEPTED, Json(Job::from(&job))))
}
