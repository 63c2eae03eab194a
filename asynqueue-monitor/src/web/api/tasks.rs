//! Tasks, and what to do with some of them.

use asynqueue_core::{
    broker::{Cursor, Page},
    inspector::{ActionKind, ActionOutcome, Filter},
    task::{Name, TaskId, TaskRef, TaskState},
};
use axum::{Json, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{
    IntoParams, ToSchema,
    openapi::schema::{Object, ObjectBuilder, Type},
};

use super::{
    error::{ApiError, Body, Path, Query},
    task::Task,
};
use crate::web::{
    changes::{MOST, action, audit, done},
    request::View,
};

/// A state of tasks.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Scheduled,
    Pending,
    Active,
    Retry,
    Completed,
    Archived,
    Aggregating,
}

impl From<State> for TaskState {
    fn from(state: State) -> Self {
        match state {
            State::Scheduled => Self::Scheduled,
            State::Pending => Self::Pending,
            State::Active => Self::Active,
            State::Retry => Self::Retry,
            State::Completed => Self::Completed,
            State::Archived => Self::Archived,
            State::Aggregating => Self::Aggregating,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    #[param(inline)]
    state: State,
    /// Terms such as `event=email:*`, `error~timeout` and `age>1h`; all have to match.
    #[serde(default)]
    filter: String,
    /// `next` of the answer before.
    after: Option<String>,
    #[serde(default = "fifty")]
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: usize,
}

fn fifty() -> usize {
    50
}

/// A part of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tasks {
    /// Those that match; fewer than asked for, or none, although there are more.
    tasks: Vec<Task>,
    /// Where to go on; none at the end.
    next: Option<String>,
    /// How many tasks were looked at.
    scanned: usize,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Sought {
    #[param(example = "welcome-42")]
    id: String,
}

/// Why tasks are archived or cancelled.
pub(super) const REASON: &str = "by the API";

/// The actions that apply to tasks.
pub(super) fn task_actions() -> Object {
    let kinds = ActionKind::ALL.iter().copied();
    let names = kinds
        .filter(|kind| kind.applies_to_tasks())
        .map(ActionKind::as_str);
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("What to do with the tasks."))
        .enum_values(Some(names))
        .build()
}

/// A change of some tasks.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "action": "archive", "ids": ["welcome-42"] }))]
pub(super) struct Change {
    #[schema(schema_with = task_actions)]
    action: ActionKind,
    #[schema(min_items = 1, max_items = 1000)]
    ids: Vec<String>,
    /// The new payload, to edit.
    #[serde(default)]
    payload: Option<Value>,
    /// Where to move to.
    #[serde(default)]
    queue: Option<String>,
}

/// What came of it for one task.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Outcome {
    id: String,
    done: bool,
    /// Why it was not done.
    reason: Option<String>,
}

/// The tasks of a queue in one state that match a filter, a part at a time.
#[utoipa::path(get, path = "/api/queues/{queue}/tasks", params(("queue" = String, Path, example = "mail"), Asked), responses((status = 200, description = "The tasks.", body = Tasks)))]
pub(super) async fn list_tasks(
    view: View,
    Path(queue): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Json<Tasks>, ApiError> {
    if !(1..=200).contains(&asked.limit) {
        let limit = asked.limit;
        return Err(ApiError::bad(format!(
            "`limit` is {limit}: expected 1 to 200"
        )));
    }
    let filter: Filter = asked.filter.parse()?;
    let page = Page::first(asked.limit).after(asked.after.map(Cursor));
    let (queue, state) = (Name::from(queue), asked.state.into());
    let listing = view.inspector.list(&queue, state, &filter, page).await?;
    let tasks = listing.tasks.iter().map(|task| Task::new(&view, task));
    Ok(Json(Tasks {
        tasks: tasks.collect(),
        next: listing.next.map(|cursor| cursor.0),
        scanned: listing.scanned,
    }))
}

/// One task.
#[utoipa::path(get, path = "/api/queues/{queue}/tasks/{id}", params(("queue" = String, Path, example = "mail"), ("id" = String, Path, example = "welcome-42")), responses((status = 200, description = "The task.", body = Task)))]
pub(super) async fn get_task(
    view: View,
    Path((queue, id)): Path<(String, String)>,
) -> Result<Json<Task>, ApiError> {
    let task = TaskRef::new(Name::from(queue), TaskId::new(&id)?);
    let info = view.inspector.task(&task).await?;
    let missing = || ApiError::not_found(format!("there is no task `{task}`"));
    Ok(Json(Task::new(&view, &info.ok_or_else(missing)?)))
}

/// A payload in place of that of another task.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Again {
    /// The other's own, without one.
    #[serde(default)]
    payload: Option<Value>,
}

/// Where a task is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Place {
    queue: String,
    id: String,
}

/// Enqueues a new task like another, whatever the state of that.
#[utoipa::path(post, path = "/api/queues/{queue}/tasks/{id}/again", params(("queue" = String, Path, example = "mail"), ("id" = String, Path, example = "welcome-42")), request_body = Again, responses(
    (status = 201, description = "The new task.", body = Place),
    (status = 409, description = "Another task holds its unique lock.", body = super::error::Error, content_type = "application/json")
))]
pub(super) async fn enqueue_again(
    view: View,
    Path((queue, id)): Path<(String, String)>,
    Body(asked): Body<Again>,
) -> Result<(StatusCode, Json<Place>), ApiError> {
    let task = TaskRef::new(Name::from(queue), TaskId::new(&id)?);
    let again = view.inspector.enqueue_again(&task, asked.payload.as_ref());
    let again = again.await?;
    audit(&view, "enqueue again", &task.to_string(), again.id.as_str());
    let (queue, id) = (again.queue.to_string(), again.id.to_string());
    Ok((StatusCode::CREATED, Json(Place { queue, id })))
}

/// The tasks with an id, whichever queues they are in.
#[utoipa::path(get, path = "/api/find", params(Sought), responses((status = 200, description = "The tasks.", body = Vec<Task>)))]
pub(super) async fn find_tasks(
    view: View,
    Query(sought): Query<Sought>,
) -> Result<Json<Vec<Task>>, ApiError> {
    let found = view.inspector.find(&sought.id).await?;
    let tasks = found.iter().map(|task| Task::new(&view, task));
    Ok(Json(tasks.collect()))
}

/// Does something with some tasks of a queue, at once.
#[utoipa::path(post, path = "/api/queues/{queue}/actions", params(("queue" = String, Path, example = "mail")), request_body = Change, responses((status = 200, description = "What came of each, in the order given.", body = Vec<Outcome>)))]
pub(super) async fn act_on_tasks(
    view: View,
    Path(queue): Path<String>,
    Body(change): Body<Change>,
) -> Result<Json<Vec<Outcome>>, ApiError> {
    if !(1..=MOST).contains(&change.ids.len()) {
        let given = change.ids.len();
        return Err(ApiError::bad(format!(
            "there are {given} `ids`: expected 1 to {MOST}"
        )));
    }
    let (queue, kind) = (Name::from(queue), change.action);
    let action = action(kind, REASON, change.payload, change.queue)?;
    let ids = change.ids.iter().map(TaskId::new);
    let tasks = ids.map(|id| Ok(TaskRef::new(queue.clone(), id?)));
    let tasks = tasks.collect::<Result<Vec<_>, ApiError>>()?;
    let outcomes = view.inspector.apply(&action, &tasks).await?;
    let did = format!("done for {} of {} tasks", done(&outcomes), tasks.len());
    audit(&view, kind.as_str(), &queue, &did);
    let outcomes = change.ids.into_iter().zip(outcomes).map(|(id, outcome)| {
        let reason = match outcome {
            ActionOutcome::Done => None,
            ActionOutcome::NotFound => Some("it is not there".into()),
            ActionOutcome::Refused(reason) => Some(reason),
        };
        let done = reason.is_none();
        Outcome { id, done, reason }
    });
    Ok(Json(outcomes.collect()))
}
