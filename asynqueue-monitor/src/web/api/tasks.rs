//! Tasks and actions on them.

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
    changes::{MOST, action, audit, done, enqueue_copy},
    reading::queue::{COUNTED, TALLIED},
    request::View,
};

/// A task state.
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

/// The end of a list at which its first page starts.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ListOrder {
    #[default]
    First,
    Last,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    #[param(inline)]
    state: State,
    /// Terms such as `event=email:*`, `error~timeout` and `age>1h`. All terms have to match.
    #[serde(default)]
    filter: String,
    /// `first`: waiting tasks in the order they will run, finished tasks newest first. `last`: the reverse, at the same
    /// cost.
    #[serde(default)]
    #[param(inline, default = "first")]
    order: ListOrder,
    /// The cursor `next` of the previous page, which has the same `order`.
    after: Option<String>,
    #[serde(default = "super::fifty")]
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: usize,
}

/// A page of tasks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tasks {
    /// The matching tasks. A page may have fewer than `limit`, or none, even if more follow.
    tasks: Vec<Task>,
    /// The cursor of the next page. Null on the last page.
    next: Option<String>,
    /// How many tasks were scanned.
    scanned: usize,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct FindParams {
    #[param(example = "welcome-42")]
    id: String,
}

/// The reason that is recorded when tasks are archived or cancelled.
pub(super) const REASON: &str = "via the API";

/// The actions that apply to tasks.
pub(super) fn task_actions() -> Object {
    let kinds = ActionKind::ALL.iter().copied();
    let names = kinds
        .filter(|kind| kind.applies_to_tasks())
        .map(ActionKind::as_str);
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("The action on the tasks."))
        .enum_values(Some(names))
        .build()
}

/// An action on individual tasks.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "action": "archive", "ids": ["welcome-42"] }))]
pub(super) struct Change {
    #[schema(schema_with = task_actions)]
    action: ActionKind,
    #[schema(min_items = 1, max_items = 1000)]
    ids: Vec<String>,
    /// The new payload, for `edit`.
    #[serde(default)]
    payload: Option<Value>,
    /// The destination queue, for `move`.
    #[serde(default)]
    queue: Option<String>,
}

/// The outcome for one task.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Outcome {
    id: String,
    done: bool,
    /// Why the task is unchanged.
    reason: Option<String>,
}

/// Lists the matching tasks of a queue in one state, page by page.
#[utoipa::path(get, path = "/api/queues/{queue}/tasks", params(("queue" = String, Path, example = "mail"), ListParams), responses((status = 200, description = "The tasks.", body = Tasks)))]
pub(super) async fn list_tasks(
    view: View,
    Path(queue): Path<String>,
    Query(params): Query<ListParams>,
) -> Result<Json<Tasks>, ApiError> {
    if !(1..=200).contains(&params.limit) {
        let limit = params.limit;
        return Err(ApiError::bad(format!(
            "`limit` is {limit}: expected 1 to 200"
        )));
    }
    let filter: Filter = params.filter.parse()?;
    let page = match params.order {
        ListOrder::First => Page::first(params.limit),
        ListOrder::Last => Page::last(params.limit),
    };
    let page = page.after(params.after.map(Cursor));
    let (queue, state) = (view.known_queue(&queue).await?, params.state.into());
    let listing = view.inspector.list(&queue, state, &filter, page).await?;
    let tasks = listing.tasks.iter().map(|task| Task::new(&view, task));
    Ok(Json(Tasks {
        tasks: tasks.collect(),
        next: listing.next.map(|cursor| cursor.0),
        scanned: listing.scanned,
    }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct CountParams {
    #[param(inline)]
    state: State,
    /// Terms such as `event=email:*`. Without terms, all tasks match.
    #[serde(default)]
    filter: String,
}

/// The number of tasks that match.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MatchingTasks {
    /// How many of the scanned tasks match.
    found: u64,
    /// How many tasks were scanned: about 10,000 at most.
    scanned: u64,
    /// How many tasks the queue has in the state.
    total: u64,
    /// Whether `found` counts all tasks. Otherwise more may match.
    complete: bool,
}

/// Counts the matching tasks of a queue in one state, for example before a job changes them.
#[utoipa::path(get, path = "/api/queues/{queue}/count", params(("queue" = String, Path, example = "mail"), CountParams), responses((status = 200, description = "The count.", body = MatchingTasks)))]
pub(super) async fn count_tasks(
    view: View,
    Path(queue): Path<String>,
    Query(params): Query<CountParams>,
) -> Result<Json<MatchingTasks>, ApiError> {
    let filter: Filter = params.filter.parse()?;
    let (queue, state) = (view.known_queue(&queue).await?, params.state.into());
    let counted = view
        .inspector
        .count(&queue, state, &filter, COUNTED)
        .await?;
    Ok(Json(MatchingTasks {
        found: counted.found,
        scanned: counted.scanned,
        total: counted.total,
        complete: counted.is_complete,
    }))
}

/// The headers of a list, or of 1,000 tasks of a longer one, half of them from each end.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Headers {
    /// How many of the scanned tasks match.
    tasks: u64,
    /// How many tasks were scanned: 1,000 at most.
    scanned: u64,
    /// Whether all tasks of the list were scanned.
    complete: bool,
    /// The headers, by name.
    headers: Vec<HeaderUse>,
}

/// The values of one header.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HeaderUse {
    name: String,
    /// How many tasks have the header.
    tasks: u64,
    /// How many different values it has.
    distinct: u64,
    /// The 20 most frequent values, most frequent first.
    values: Vec<HeaderValue>,
}

/// A value of a header.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HeaderValue {
    value: String,
    tasks: u64,
}

/// Counts the values of each header of the matching tasks of a queue in one state, for example to find the customer with
/// the most tasks.
#[utoipa::path(get, path = "/api/queues/{queue}/headers", params(("queue" = String, Path, example = "mail"), CountParams), responses((status = 200, description = "The headers.", body = Headers)))]
pub(super) async fn count_headers(
    view: View,
    Path(queue): Path<String>,
    Query(params): Query<CountParams>,
) -> Result<Json<Headers>, ApiError> {
    let filter: Filter = params.filter.parse()?;
    let (queue, state) = (view.known_queue(&queue).await?, params.state.into());
    let uses = view
        .inspector
        .headers(&queue, state, &filter, TALLIED)
        .await?;
    let value = |(value, tasks)| HeaderValue { value, tasks };
    let headers = uses.headers.into_iter().map(|one| HeaderUse {
        name: one.name,
        tasks: one.tasks,
        distinct: one.distinct,
        values: one.values.into_iter().map(value).collect(),
    });
    Ok(Json(Headers {
        tasks: uses.tasks,
        scanned: uses.scanned,
        complete: uses.is_complete,
        headers: headers.collect(),
    }))
}

/// Returns one task.
#[utoipa::path(get, path = "/api/queues/{queue}/tasks/{id}", params(("queue" = String, Path, example = "mail"), ("id" = String, Path, example = "welcome-42")), responses((status = 200, description = "The task.", body = Task)))]
pub(super) async fn get_task(
    view: View,
    Path((queue, id)): Path<(String, String)>,
) -> Result<Json<Task>, ApiError> {
    let task = TaskRef::new(Name::from(queue), TaskId::new(&id)?);
    let Some(info) = view.inspector.task(&task).await? else {
        let missing = format!("task `{task}` does not exist");
        return Err(view.missing_task(&task, missing).await.into());
    };
    Ok(Json(Task::new(&view, &info)))
}

/// A copy of a task.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Again {
    /// The payload of the copy. Default: the payload of the original.
    #[serde(default)]
    payload: Option<Value>,
}

/// The queue and ID of a task.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Place {
    queue: String,
    id: String,
}

/// Enqueues a copy of a task. The original may be in any state.
#[utoipa::path(post, path = "/api/queues/{queue}/tasks/{id}/again", params(("queue" = String, Path, example = "mail"), ("id" = String, Path, example = "welcome-42")), request_body = Again, responses(
    (status = 201, description = "The new task.", body = Place),
    (status = 409, description = "Another task holds its unique lock.", body = super::error::Error, content_type = "application/json")
))]
pub(super) async fn enqueue_again(
    view: View,
    Path((queue, id)): Path<(String, String)>,
    Body(body): Body<Again>,
) -> Result<(StatusCode, Json<Place>), ApiError> {
    let task = TaskRef::new(Name::from(queue), TaskId::new(&id)?);
    let again = enqueue_copy(&view, &task, body.payload.as_ref()).await?;
    let (queue, id) = (again.queue.to_string(), again.id.to_string());
    Ok((StatusCode::CREATED, Json(Place { queue, id })))
}

/// Finds tasks by ID in all queues.
#[utoipa::path(get, path = "/api/find", params(FindParams), responses((status = 200, description = "The tasks.", body = Vec<Task>)))]
pub(super) async fn find_tasks(
    view: View,
    Query(params): Query<FindParams>,
) -> Result<Json<Vec<Task>>, ApiError> {
    let found = view.inspector.find(&params.id).await?;
    let tasks = found.iter().map(|task| Task::new(&view, task));
    Ok(Json(tasks.collect()))
}

/// Applies an action to individual tasks of a queue immediately.
#[utoipa::path(post, path = "/api/queues/{queue}/actions", params(("queue" = String, Path, example = "mail")), request_body = Change, responses((status = 200, description = "The outcome for each task, in the order of `ids`.", body = Vec<Outcome>)))]
pub(super) async fn act_on_tasks(
    view: View,
    Path(queue): Path<String>,
    Body(change): Body<Change>,
) -> Result<Json<Vec<Outcome>>, ApiError> {
    if !(1..=MOST).contains(&change.ids.len()) {
        let given = change.ids.len();
        return Err(ApiError::bad(format!(
            "`ids` has {given} entries: expected 1 to {MOST}"
        )));
    }
    let kind = change.action;
    let action = action(kind, REASON, change.payload, change.queue)?;
    let queue = view.known_queue(&queue).await?;
    let ids = change.ids.iter().map(TaskId::new);
    let tasks = ids.map(|id| Ok(TaskRef::new(queue.clone(), id?)));
    let tasks = tasks.collect::<Result<Vec<_>, ApiError>>()?;
    let outcomes = view.inspector.apply(&action, &tasks).await?;
    let did = format!("{} of {} tasks changed", done(&outcomes), tasks.len());
    audit(&view, kind.as_str(), &queue, &did);
    let outcomes = change.ids.into_iter().zip(outcomes).map(|(id, outcome)| {
        let reason = match outcome {
            ActionOutcome::Done => None,
            ActionOutcome::NotFound => Some("it does not exist".into()),
            ActionOutcome::Refused(reason) => Some(reason),
        };
        let done = reason.is_none();
        Outcome { id, done, reason }
    });
    Ok(Json(outcomes.collect()))
}
