//! A task, as the API returns it.

use std::collections::BTreeMap;

use asynqueue_core::{broker::TaskInfo, task::Failure};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{millis, time};
use crate::web::request::View;

/// One task.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Task {
    queue: String,
    id: String,
    event: String,
    state: &'static str,
    /// When the task is due, was archived, or its retention ends, depending on the state.
    at: Option<String>,
    #[schema(format = DateTime)]
    enqueued_at: String,
    /// Attempts that have failed.
    attempts: u32,
    /// The number of retries after the first attempt. When they have failed too, the task is archived.
    max_retry: u32,
    priority: u8,
    /// The time limit of an attempt, in milliseconds.
    timeout_ms: u64,
    /// How long the task is kept after completion, in milliseconds.
    retention_ms: u64,
    /// The time after which no attempt may start or continue.
    deadline: Option<String>,
    group: Option<String>,
    unique_key: Option<String>,
    /// The task that this one is a copy of. Its ID is the idempotency key of both.
    copy_of: Option<String>,
    /// The codec of the payload.
    codec: String,
    /// The payload as JSON with any codec. Fields may be redacted.
    payload: Value,
    result: Option<Value>,
    headers: BTreeMap<String, String>,
    progress: Option<Progress>,
    /// The server that runs the task.
    worker: Option<String>,
    /// The recorded attempts, oldest first.
    history: Vec<Attempt>,
    /// Recent events other than attempts, such as archiving by a user.
    put_aside: Vec<Reason>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Progress {
    done: u64,
    total: u64,
    note: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct Attempt {
    number: u32,
    started: Option<String>,
    ended: Option<String>,
    worker: Option<String>,
    /// The failure, if the attempt failed.
    failure: Option<Reason>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Reason {
    kind: String,
    #[schema(format = DateTime)]
    at: String,
    message: String,
    backtrace: Option<String>,
}

impl From<&Failure> for Reason {
    fn from(failure: &Failure) -> Self {
        Self {
            kind: failure.kind.to_string(),
            at: time(failure.at),
            message: failure.message.clone(),
            backtrace: failure.backtrace.clone(),
        }
    }
}

impl Task {
    pub(super) fn new(view: &View, info: &TaskInfo) -> Self {
        let (envelope, options) = (&*info.envelope, &info.envelope.options);
        let headers = envelope.headers.iter();
        let others = envelope.failures().iter();
        Self {
            queue: envelope.queue.to_string(),
            id: envelope.id.to_string(),
            event: envelope.event.to_string(),
            state: info.state.as_str(),
            at: info.at.map(time),
            enqueued_at: time(envelope.enqueued_at),
            attempts: envelope.attempts,
            max_retry: options.max_retry,
            priority: options.priority,
            timeout_ms: millis(options.timeout),
            retention_ms: millis(options.retention),
            deadline: envelope.deadline.map(time),
            group: options.group.as_ref().map(ToString::to_string),
            unique_key: view.inspector.unique_key(info).map(str::to_owned),
            copy_of: envelope.origin().map(ToString::to_string),
            codec: envelope.codec.to_string(),
            payload: view.inspector.payload(info),
            result: view.inspector.result(info),
            headers: headers
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            progress: info.progress.as_ref().map(|progress| Progress {
                done: progress.done,
                total: progress.total,
                note: progress.note.to_string(),
            }),
            worker: info.lease.as_ref().map(|lease| lease.worker.to_string()),
            history: attempts(info),
            put_aside: others
                .filter(|one| !one.is_attempt())
                .map(Reason::from)
                .collect(),
        }
    }
}

fn attempts(info: &TaskInfo) -> Vec<Attempt> {
    let attempts = info.attempts().into_iter();
    let attempt = |attempt: asynqueue_core::task::Attempt| Attempt {
        number: attempt.number,
        started: attempt.started.map(time),
        ended: attempt.ended.map(time),
        worker: attempt.worker.map(|worker| worker.to_string()),
        failure: attempt.failure.as_ref().map(Reason::from),
    };
    attempts.map(attempt).collect()
}
