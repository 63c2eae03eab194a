//! Why queues and tasks wait.

use asynqueue_core::{
    broker::{LimitInfo, LimitKind, Pause},
    inspector::{Cause as Found, Taker},
    task::{Name, TaskId, TaskRef, Timestamp},
};
use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    error::{ApiError, Path},
    millis, time,
};
use crate::web::request::View;

/// Why the tasks of a queue wait.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct QueueWait {
    queue: String,
    /// The number of pending tasks.
    pending: u64,
    /// The servers that take from the queue, by name.
    servers: Vec<TakingServer>,
    /// The causes, gravest first. Empty if nothing waits and nothing would prevent a task from starting.
    causes: Vec<WaitCause>,
}

/// Why a task waits.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TaskWait {
    queue: String,
    id: String,
    state: &'static str,
    /// The causes, gravest first. Empty if the task does not wait.
    causes: Vec<WaitCause>,
}

/// A server that takes from a queue.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TakingServer {
    name: String,
    /// `working`, `quiet`, `stopping` or `lost`.
    state: &'static str,
    /// How many tasks of the queue it runs or is about to run.
    running: u64,
    /// The maximum of `running`. Null if only the slots limit it.
    limit: Option<u64>,
    /// The busy slots, with tasks of any queue.
    busy: u64,
    slots: u64,
}

/// One cause. Fields that do not apply to its kind are null or empty.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct WaitCause {
    /// `paused`, `not_due`, `grouped`, `no_server`, `no_handler`, `busy`, `queue_limit`, `limit`, `away`, `pending` or
    /// `turn`. Later versions may add kinds.
    kind: &'static str,
    /// The cause in words.
    text: String,
    /// Who paused the queue.
    by: Option<String>,
    /// The address that the queue was paused from.
    from: Option<String>,
    /// Since when the queue is paused.
    #[schema(format = DateTime)]
    since: Option<String>,
    /// Why the queue was paused.
    reason: Option<String>,
    /// When the task is due, or when a limit allows the next attempt.
    #[schema(format = DateTime)]
    due: Option<String>,
    /// The event that has no handler.
    event: Option<String>,
    /// The servers that the cause is about.
    servers: Vec<String>,
    /// The limit of handlers.
    limit: Option<HandlerLimit>,
    /// The tasks that hold the places of a limit, longest first.
    holders: Vec<Holder>,
    /// How many tasks are ahead of the task. At least that many, if `text` says so.
    ahead: Option<u64>,
    /// When the task starts, if attempts end as in the recent past. The earliest time, if `ahead` is a minimum.
    #[schema(format = DateTime)]
    estimated_start: Option<String>,
}

/// A limit of handlers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HandlerLimit {
    /// `concurrency`, `rate` or `other`.
    kind: &'static str,
    /// The events of the handlers that it limits together.
    events: Vec<String>,
    /// How many attempts it allows: concurrently, or in each period.
    max: u64,
    period_ms: Option<u64>,
    used: u64,
    /// About how many tasks wait for it.
    waiting: u64,
    /// When the next attempt may start. Null if that depends on when a running attempt ends.
    #[schema(format = DateTime)]
    next: Option<String>,
}

/// A task that holds a place of a limit.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Holder {
    queue: String,
    id: String,
}

/// Who paused a queue or a schedule entry, when and why.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PauseRecord {
    by: Option<String>,
    /// The address that it was paused from.
    from: Option<String>,
    #[schema(format = DateTime)]
    since: String,
    reason: Option<String>,
}

impl From<Pause> for PauseRecord {
    fn from(pause: Pause) -> Self {
        let (by, from) = pause.by.map(|by| (by.name, by.from)).unzip();
        Self {
            by,
            from: from.flatten(),
            since: time(pause.since),
            reason: pause.reason,
        }
    }
}

impl From<&Taker> for TakingServer {
    fn from(taker: &Taker) -> Self {
        Self {
            name: taker.server.to_string(),
            state: taker.state.as_str(),
            running: taker.running,
            limit: taker.max,
            busy: taker.busy,
            slots: taker.slots,
        }
    }
}

impl From<&LimitInfo> for HandlerLimit {
    fn from(limit: &LimitInfo) -> Self {
        Self {
            kind: match limit.kind {
                LimitKind::Concurrency => "concurrency",
                LimitKind::Rate => "rate",
                _ => "other",
            },
            events: limit.events.iter().map(ToString::to_string).collect(),
            max: limit.max,
            period_ms: limit.period.map(millis),
            used: limit.used,
            waiting: limit.waiting,
            next: limit.next.map(time),
        }
    }
}

fn names(takers: &[Taker]) -> Vec<String> {
    let names = takers.iter().map(|taker| taker.server.to_string());
    names.collect()
}

fn holders(tasks: &[TaskRef]) -> Vec<Holder> {
    let holder = |task: &TaskRef| Holder {
        queue: task.queue.to_string(),
        id: task.id.to_string(),
    };
    tasks.iter().map(holder).collect()
}

impl WaitCause {
    fn new(cause: &Found, now: Timestamp) -> Self {
        let mut new = Self {
            kind: cause.kind(),
            text: cause.describe(now),
            ..Self::default()
        };
        match cause {
            Found::Paused {
                pause: Some(pause), ..
            } => new.set_pause(pause),
            Found::NotDue { due, .. } => new.due = Some(time(*due)),
            Found::NoServer { away, .. } => new.servers = names(away),
            Found::NoHandler { event, .. } => new.event = Some(event.to_string()),
            Found::Busy { servers, .. } | Found::Away { servers, .. } => {
                new.servers = names(servers);
            }
            Found::QueueLimit {
                servers,
                holders: held,
                ..
            } => {
                new.servers = names(servers);
                new.holders = holders(held);
            }
            Found::Limit {
                server,
                limit,
                holders: held,
                due,
                ..
            } => {
                new.servers = vec![server.to_string()];
                new.limit = Some(limit.into());
                new.holders = holders(held);
                new.due = due.or(limit.next).map(time);
            }
            Found::Turn(turn) => {
                new.ahead = Some(turn.ahead);
                new.estimated_start = turn.start.as_ref().map(|start| time(start.at));
            }
            _ => {}
        }
        new
    }

    fn set_pause(&mut self, pause: &Pause) {
        self.by = pause.by.as_ref().map(|actor| actor.name.clone());
        self.from = pause.by.as_ref().and_then(|actor| actor.from.clone());
        self.since = Some(time(pause.since));
        self.reason.clone_from(&pause.reason);
    }

    fn all(causes: &[Found], now: Timestamp) -> Vec<Self> {
        causes.iter().map(|cause| Self::new(cause, now)).collect()
    }
}

/// Returns why the tasks of a queue wait, and which servers take from it.
#[utoipa::path(get, path = "/api/queues/{queue}/why", params(("queue" = String, Path, example = "mail")), responses((status = 200, description = "The causes.", body = QueueWait)))]
pub(super) async fn why_queue_waits(
    view: View,
    Path(queue): Path<String>,
) -> Result<Json<QueueWait>, ApiError> {
    let queue = view.known_queue(&queue).await?;
    let wait = view.inspector.why_queue_waits(&queue).await?;
    Ok(Json(QueueWait {
        queue: wait.queue.to_string(),
        pending: wait.pending,
        servers: wait.takers.iter().map(TakingServer::from).collect(),
        causes: WaitCause::all(&wait.causes, view.inspector.now()),
    }))
}

/// Returns why a task waits.
#[utoipa::path(get, path = "/api/queues/{queue}/tasks/{id}/why", params(("queue" = String, Path, example = "mail"), ("id" = String, Path, example = "welcome-42")), responses((status = 200, description = "The causes.", body = TaskWait)))]
pub(super) async fn why_task_waits(
    view: View,
    Path((queue, id)): Path<(String, String)>,
) -> Result<Json<TaskWait>, ApiError> {
    let task = TaskRef::new(Name::from(queue), TaskId::new(&id)?);
    let Some(wait) = view.inspector.why_task_waits(&task).await? else {
        let missing = format!("task `{task}` does not exist");
        return Err(view.missing_task(&task, missing).await.into());
    };
    Ok(Json(TaskWait {
        queue: task.queue.to_string(),
        id: task.id.to_string(),
        state: wait.state.as_str(),
        causes: WaitCause::all(&wait.causes, view.inspector.now()),
    }))
}
