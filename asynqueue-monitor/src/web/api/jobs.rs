//! Changes of all tasks that match: each begins after a while in which it can be undone.

use std::sync::Arc;

use asynqueue_core::{inspector::Filter, task::Name};
use axum::{Json, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    error::{ApiError, Body, Path},
    tasks::{State, Verb},
};
use crate::web::{
    actions::{all_that_match, audit, begin},
    jobs,
    pages::View,
};

/// A change of all tasks of a queue in one state that match a filter.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "action": "retry", "state": "archived", "filter": "error~timeout" }))]
pub(super) struct Order {
    #[schema(inline)]
    action: Verb,
    #[schema(inline)]
    state: State,
    /// Terms such as `event=email:*`; all tasks match without any.
    #[serde(default)]
    filter: String,
    /// The new payload, to edit.
    #[serde(default)]
    payload: Option<Value>,
    /// Where to move to.
    #[serde(default)]
    queue: Option<String>,
}

/// A change that was asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Job {
    id: u64,
    /// How far it is, in words.
    text: String,
    /// Whether it has come to its end.
    ended: bool,
}

impl From<&Arc<jobs::Job>> for Job {
    fn from(job: &Arc<jobs::Job>) -> Self {
        Self {
            id: job.id,
            text: job.text(),
            ended: job.has_ended(),
        }
    }
}

/// Does something with all tasks of a queue in one state that match a filter.
#[utoipa::path(post, path = "/api/queues/{queue}/jobs", params(("queue" = String, Path, example = "mail")), request_body = Order, responses((status = 202, description = "It begins, unless it is stopped first.", body = Job)))]
pub(super) async fn begin_job(
    view: View,
    Path(queue): Path<String>,
    Body(order): Body<Order>,
) -> Result<(StatusCode, Json<Job>), ApiError> {
    let filter: Filter = order.filter.parse()?;
    let action = order.action.action(order.payload, order.queue)?;
    let (queue, state) = (Name::from(queue), order.state.into());
    let name = order.action.name();
    let job = begin(
        &view,
        all_that_match(&view, name, action, &queue, state, filter),
    )?;
    Ok((StatusCode::ACCEPTED, Json(Job::from(&job))))
}

/// Those that go on, and those that ended in the last minute; the last first.
#[utoipa::path(get, path = "/api/jobs", responses((status = 200, description = "The jobs.", body = Vec<Job>)))]
pub(super) async fn list_jobs(view: View) -> Json<Vec<Job>> {
    let shown = view.shared.jobs.shown();
    Json(shown.iter().map(Job::from).collect())
}

/// Undoes a job that has not begun, and stops one that has; one that has ended stays as it is.
#[utoipa::path(delete, path = "/api/jobs/{id}", params(("id" = u64, Path, example = 1)), responses((status = 202, description = "It ends.", body = Job)))]
pub(super) async fn stop_job(
    view: View,
    Path(id): Path<u64>,
) -> Result<(StatusCode, Json<Job>), ApiError> {
    let missing = || ApiError::not_found(format!("there is no job {id}, or it ended long ago"));
    let job = view.shared.jobs.get(id).ok_or_else(missing)?;
    job.stop();
    audit(&view, "stop", &format!("job {id}"), &job.text());
    Ok((StatusCode::ACCEPTED, Json(Job::from(&job))))
}
