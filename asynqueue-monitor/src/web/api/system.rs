//! Who works, who subscribes, and where the tasks are kept.

use std::collections::BTreeMap;

use asynqueue_core::{Name, RunningTask, ServerInfo, Timestamp, UnhandledTasks};
use axum::{Json, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    error::{ApiError, Path},
    time,
};
use crate::web::{
    actions::{ask_server, audit},
    attention,
    pages::View,
};

/// One server.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Server {
    name: String,
    host: String,
    pid: u32,
    #[schema(format = DateTime)]
    started: String,
    /// When it was heard of.
    #[schema(format = DateTime)]
    seen: String,
    /// Whether it has fallen silent; it is remembered for an hour.
    lost: bool,
    /// Its queues, with their weights.
    queues: BTreeMap<String, u32>,
    /// Whether a queue of more weight goes before all others.
    strict: bool,
    /// The events that it has processes for.
    events: Vec<String>,
    /// How many tasks it runs at once at most.
    concurrency: usize,
    busy: usize,
    running: Vec<Running>,
    /// Handlers that go on though their slot was given up.
    abandoned: usize,
    /// Attempts that have ended.
    finished: u64,
    stopping: bool,
    /// Whether it leases nothing until it is resumed.
    quiet: bool,
    /// Tasks that it gave back, since it has no process for their event.
    unhandled: Vec<Unhandled>,
}

/// Tasks of an event that a server has no process for.
#[derive(Debug, Serialize, ToSchema)]
struct Unhandled {
    queue: String,
    event: String,
    tasks: u64,
}

/// What runs.
#[derive(Debug, Serialize, ToSchema)]
struct Running {
    queue: String,
    id: String,
    event: String,
    attempt: u32,
    #[schema(format = DateTime)]
    started: String,
    /// When it is given up.
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
        }
    }
}

/// Who subscribes to what.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Subscription {
    event: String,
    name: String,
    queue: String,
    #[schema(format = DateTime)]
    since: String,
}

/// A server that the storage consists of.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Node {
    address: String,
    version: String,
    memory_bytes: Option<u64>,
    /// What it reports of itself, in its own words, such as its `role` and, in a Redis Cluster, its `slots`.
    info: BTreeMap<String, String>,
}

/// Something that somebody should look at.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Concern {
    /// `no_server`, `lost_servers`, `unhandled_event`, `stuck_handlers`, `slow_queue`, `growing_queue`, `failing_queue`, `trimmed_archive` or
    /// `full_archive`.
    kind: &'static str,
    /// The queue that it is about, if it is about one.
    queue: Option<String>,
    /// What is the matter.
    text: String,
}

/// What needs attention, the gravest first. Backlogs that grow are noticed only while somebody follows the pages.
#[utoipa::path(get, path = "/api/attention", responses((status = 200, description = "What needs attention.", body = Vec<Concern>)))]
pub(super) async fn list_concerns(view: View) -> Result<Json<Vec<Concern>>, ApiError> {
    let seen = view.shared.live.now().await?;
    let slow = view.shared.live.slow(&seen).await?;
    let concern = |concern: &attention::Concern| {
        let queue = concern.queue().map(|(queue, _)| queue);
        let blame = queue.and_then(|queue| slow.blame.get(queue));
        Concern {
            kind: concern.kind(),
            queue: queue.map(ToString::to_string),
            text: concern.text(view.now, blame.map(String::as_str)),
        }
    };
    Ok(Json(seen.concerns.iter().map(concern).collect()))
}

/// The servers that are at work, and those that were lost in the last hour.
#[utoipa::path(get, path = "/api/servers", responses((status = 200, description = "The servers.", body = Vec<Server>)))]
pub(super) async fn list_servers(view: View) -> Result<Json<Vec<Server>>, ApiError> {
    let seen = view.shared.live.now().await?;
    let servers = seen.servers.iter();
    Ok(Json(
        servers
            .map(|server| Server::new(server, view.now))
            .collect(),
    ))
}

/// Makes a server finish what runs and lease nothing more, within five seconds. It stays so until it is resumed or ends.
#[utoipa::path(post, path = "/api/servers/{server}/quiet", params(("server" = String, Path, example = "worker-1")), responses((status = 204, description = "It is asked for.")))]
pub(super) async fn quiet_server(
    view: View,
    Path(server): Path<String>,
) -> Result<StatusCode, ApiError> {
    let server = Name::from(server);
    ask_server(&view, &server, true).await?;
    audit(&view, "quiet", &server, "asked to stop leasing");
    Ok(StatusCode::NO_CONTENT)
}

/// Lets a quiet server lease again, within five seconds.
#[utoipa::path(post, path = "/api/servers/{server}/resume", params(("server" = String, Path, example = "worker-1")), responses((status = 204, description = "It is asked for.")))]
pub(super) async fn resume_server(
    view: View,
    Path(server): Path<String>,
) -> Result<StatusCode, ApiError> {
    let server = Name::from(server);
    ask_server(&view, &server, false).await?;
    audit(&view, "resume", &server, "asked to lease again");
    Ok(StatusCode::NO_CONTENT)
}

/// All subscribers, by event and name.
#[utoipa::path(get, path = "/api/subscriptions", responses((status = 200, description = "The subscribers.", body = Vec<Subscription>)))]
pub(super) async fn list_subscriptions(view: View) -> Result<Json<Vec<Subscription>>, ApiError> {
    let all = view.inspector.subscriptions().await?.into_iter();
    let subscription = |one: asynqueue_core::Subscription| Subscription {
        queue: one.queue().to_string(),
        event: one.event.to_string(),
        name: one.name.to_string(),
        since: time(one.since),
    };
    Ok(Json(all.map(subscription).collect()))
}

/// The servers that the storage consists of.
#[utoipa::path(get, path = "/api/nodes", responses((status = 200, description = "The servers.", body = Vec<Node>)))]
pub(super) async fn list_nodes(view: View) -> Result<Json<Vec<Node>>, ApiError> {
    let nodes = view.inspector.nodes().await?.into_iter();
    let node = |node: asynqueue_core::Node| Node {
        address: node.address,
        version: node.version,
        memory_bytes: node.memory,
        info: node.info.into_iter().collect(),
    };
    Ok(Json(nodes.map(node).collect()))
}
