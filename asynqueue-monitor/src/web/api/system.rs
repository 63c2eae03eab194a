//! Servers, subscriptions and store nodes.

use std::collections::BTreeMap;

use asynqueue_core::{
    broker::{RunningTask, ServerInfo, UnhandledTasks},
    inspector::ActionKind,
    task::{Name, Timestamp},
};
use axum::{Json, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    error::{ApiError, Path},
    time,
    why::HandlerLimit,
};
use crate::web::{
    attention,
    changes::{audit, set_quiet},
    request::View,
};

/// One server.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Server {
    name: String,
    host: String,
    pid: u32,
    #[schema(format = DateTime)]
    started: String,
    /// The time of the last heartbeat.
    #[schema(format = DateTime)]
    seen: String,
    /// Whether the server stopped sending heartbeats. Lost servers are listed for an hour.
    lost: bool,
    /// The queues with their weights.
    queues: BTreeMap<String, u32>,
    /// Whether queues are served in strict order of their weights.
    strict: bool,
    /// The events that the server handles.
    events: Vec<String>,
    /// The maximum number of concurrently running tasks.
    concurrency: usize,
    busy: usize,
    running: Vec<Running>,
    /// Handlers still running after their worker slot was freed.
    abandoned: usize,
    /// Attempts that have ended on this server.
    finished: u64,
    stopping: bool,
    /// Whether the server leases no tasks until it is resumed.
    quiet: bool,
    /// Tasks that the server released because it has no handler for their event.
    unhandled: Vec<Unhandled>,
    /// The version of its program, if it reports one.
    version: Option<String>,
    /// The maximum number of concurrent tasks of each queue with a limit.
    queue_limits: BTreeMap<String, u64>,
    /// The limits of its handlers.
    limits: Vec<HandlerLimit>,
}

/// Tasks of an event that a server has no handler for.
#[derive(Debug, Serialize, ToSchema)]
struct Unhandled {
    queue: String,
    event: String,
    tasks: u64,
}

/// A running task.
#[derive(Debug, Serialize, ToSchema)]
struct Running {
    queue: String,
    id: String,
    event: String,
    attempt: u32,
    #[schema(format = DateTime)]
    started: String,
    /// When the attempt times out.
    #[schema(format = DateTime)]
    deadline: String,
}

impl From<&RunningTask> for Running {
    fn from(running: &RunningTask) -> Self {
        Self {
            queue: running.task.queue.to_string(),
            id: running.task.id.to_string(),
            event: running.event.to_string(),
            attempt: running.attempt,
            started: time(running.started),
            deadline: time(running.deadline),
        }
    }
}

impl From<&UnhandledTasks> for Unhandled {
    fn from(unhandled: &UnhandledTasks) -> Self {
        Self {
            queue: unhandled.queue.to_string(),
            event: unhandled.event.to_string(),
            tasks: unhandled.tasks,
        }
    }
}

impl Server {
    fn new(server: &ServerInfo, now: Timestamp) -> Self {
        let queues = server.queues.iter();
        Self {
            name: server.name.to_string(),
            host: server.host.clone(),
            pid: server.pid,
            started: time(server.started),
            seen: time(server.seen),
            lost: server.is_lost(now),
            queues: queues
                .map(|(name, weight)| (name.to_string(), *weight))
                .collect(),
            strict: server.strict,
            events: server.events.iter().map(ToString::to_string).collect(),
            concurrency: server.concurrency,
            busy: server.busy,
            running: server.running.iter().map(Running::from).collect(),
            abandoned: server.abandoned,
            finished: server.finished,
            stopping: server.stopping,
            quiet: server.quiet,
            unhandled: server.unhandled.iter().map(Unhandled::from).collect(),
            version: server.version.clone(),
            queue_limits: (server.queue_use.iter())
                .filter_map(|queue| Some((queue.queue.to_string(), queue.max?)))
                .collect(),
            limits: server.limits.iter().map(HandlerLimit::from).collect(),
        }
    }
}

/// A subscription.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Subscription {
    event: String,
    name: String,
    queue: String,
    #[schema(format = DateTime)]
    since: String,
}

/// A node of the store.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Node {
    address: String,
    version: String,
    memory_bytes: Option<u64>,
    /// The details that the node reports, under their original names, such as `role` and `slots`.
    info: BTreeMap<String, String>,
}

/// A problem that needs attention.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Concern {
    /// `failing_cause`, `failing_queue`, `lost_attempts`, `no_server`, `unserved_queue`, `unhandled_event`,
    /// `paused_queue`, `limited_queue`, `slow_queue`, `growing_queue`, `trimmed_archive`, `full_archive`, `lost_servers`,
    /// `stuck_handlers` or `stuck_outbox`.
    kind: &'static str,
    /// The affected queue, if there is exactly one.
    queue: Option<String>,
    /// The state of the tasks concerned, if they are in one queue.
    state: Option<String>,
    /// A filter that matches exactly the tasks concerned. Empty for all tasks of the queue in this state.
    filter: Option<String>,
    /// The cause, if the problem is one of `/api/failures`.
    cause: Option<String>,
    /// The number of failures, tasks, servers, handlers or entries concerned.
    count: u64,
    /// The page of the monitor where the problem is shown and fixed.
    page: String,
    /// The message.
    text: String,
}

/// Lists the problems of the last 15 minutes, by the number of tasks concerned. Growing backlogs are detected only while a page of the monitor is open.
#[utoipa::path(get, path = "/api/attention", responses((status = 200, description = "The problems.", body = Vec<Concern>)))]
pub(super) async fn list_concerns(view: View) -> Result<Json<Vec<Concern>>, ApiError> {
    let snapshot = view.shared.live.now().await?;
    let concern = |concern: &attention::Concern| {
        let tasks = concern.tasks();
        Concern {
            kind: concern.kind,
            queue: concern.queue.as_ref().map(ToString::to_string),
            state: tasks.map(|(_, state, _)| state.to_string()),
            filter: tasks.map(|(_, _, filter)| filter.to_string()),
            cause: concern.cause.map(|cause| cause.to_string()),
            count: concern.count,
            page: concern.place.url(&view.links),
            text: concern.text.clone(),
        }
    };
    Ok(Json(snapshot.concerns.iter().map(concern).collect()))
}

/// Lists the running servers and those lost in the last hour.
#[utoipa::path(get, path = "/api/servers", responses((status = 200, description = "The servers.", body = Vec<Server>)))]
pub(super) async fn list_servers(view: View) -> Result<Json<Vec<Server>>, ApiError> {
    let snapshot = view.shared.live.now().await?;
    let servers = snapshot.servers.iter();
    Ok(Json(
        servers
            .map(|server| Server::new(server, view.now))
            .collect(),
    ))
}

/// Makes a server quiet: within 5 seconds it stops leasing and only finishes its running tasks, until it is resumed or
/// ends.
#[utoipa::path(post, path = "/api/servers/{server}/quiet", params(("server" = String, Path, example = "worker-1")), responses((status = 204, description = "The request is recorded.")))]
pub(super) async fn quiet_server(
    view: View,
    Path(server): Path<String>,
) -> Result<StatusCode, ApiError> {
    let server = Name::from(server);
    set_quiet(&view, &server, true).await?;
    audit(
        &view,
        ActionKind::Quiet.as_str(),
        &server,
        "quiet requested",
    );
    Ok(StatusCode::NO_CONTENT)
}

/// Resumes a quiet server: it leases again within 5 seconds.
#[utoipa::path(post, path = "/api/servers/{server}/resume", params(("server" = String, Path, example = "worker-1")), responses((status = 204, description = "The request is recorded.")))]
pub(super) async fn resume_server(
    view: View,
    Path(server): Path<String>,
) -> Result<StatusCode, ApiError> {
    let server = Name::from(server);
    set_quiet(&view, &server, false).await?;
    audit(
        &view,
        ActionKind::Resume.as_str(),
        &server,
        "resume requested",
    );
    Ok(StatusCode::NO_CONTENT)
}

/// Lists all subscriptions by event and name.
#[utoipa::path(get, path = "/api/subscriptions", responses((status = 200, description = "The subscriptions.", body = Vec<Subscription>)))]
pub(super) async fn list_subscriptions(view: View) -> Result<Json<Vec<Subscription>>, ApiError> {
    let all = view.inspector.subscriptions().await?.into_iter();
    let subscription = |one: asynqueue_core::broker::Subscription| Subscription {
        queue: one.queue().to_string(),
        event: one.event.to_string(),
        name: one.name.to_string(),
        since: time(one.since),
    };
    Ok(Json(all.map(subscription).collect()))
}

/// Lists the nodes of the store.
#[utoipa::path(get, path = "/api/nodes", responses((status = 200, description = "The nodes.", body = Vec<Node>)))]
pub(super) async fn list_nodes(view: View) -> Result<Json<Vec<Node>>, ApiError> {
    let nodes = view.inspector.nodes().await?.into_iter();
    let node = |node: asynqueue_core::broker::Node| Node {
        address: node.address,
        version: node.version,
        memory_bytes: node.memory,
        info: node.info.into_iter().collect(),
    };
    Ok(Json(nodes.map(node).collect()))
}
