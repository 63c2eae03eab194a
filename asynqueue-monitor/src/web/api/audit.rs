//! The audit: who changed what.

use asynqueue_core::{
    inspector::{AuditCursor, AuditEntry, AuditQuery, AuditTarget},
    task::{Name, TaskId, TaskRef},
};
use axum::Json;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    error::{ApiError, Query},
    time,
};
use crate::web::{reading::audit::moment, request::View};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditParams {
    /// Only changes of this queue and its tasks.
    queue: Option<String>,
    /// Only changes of this schedule entry.
    schedule: Option<String>,
    /// Only changes of the task with this ID. Requires `queue`.
    task: Option<String>,
    /// Only changes by this user.
    by: Option<String>,
    /// The earliest time.
    #[param(format = DateTime)]
    from: Option<String>,
    /// Changes before this time.
    #[param(format = DateTime)]
    until: Option<String>,
    /// The cursor `next` of the previous page.
    after: Option<String>,
    #[serde(default = "super::fifty")]
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: usize,
}

/// A page of changes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Changes {
    /// The changes, newest first. They are kept for 90 days.
    changes: Vec<Change>,
    /// The cursor of the next page. Null on the last page.
    next: Option<String>,
}

/// A change: who made it, when, and what it changed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditChange)]
pub(super) struct Change {
    id: String,
    #[schema(format = DateTime)]
    at: String,
    /// Who made it. Null if the program did not say.
    by: Option<String>,
    /// The address that it was requested from.
    from: Option<String>,
    /// The name of an action, or `again`, `put` or `deploy`. Later versions may add others.
    action: String,
    /// `queue`, `schedule`, `server`, `outbox` or `program`. Later versions may add others.
    target: String,
    /// The name of the queue, schedule entry, server or outbox, or the version of the program.
    name: String,
    /// The change in words.
    text: String,
    /// The IDs of the first 20 tasks that were changed. Those of a job are not listed.
    tasks: Vec<String>,
    /// How many tasks were changed.
    done: u64,
    /// For how many tasks the action was refused.
    refused: u64,
    reason: Option<String>,
    /// The queue that the tasks were moved to.
    destination: Option<String>,
    /// The task that was enqueued.
    enqueued: Option<AuditTask>,
    /// Which tasks a job was applied to.
    job: Option<AuditJob>,
    /// The payload before an edit.
    edit: Option<AuditOldPayload>,
    /// Further facts in words.
    details: Option<String>,
    /// Why the action ended early. Further tasks may have been changed then.
    error: Option<String>,
}

/// A task that was enqueued by a change.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditTask {
    queue: String,
    id: String,
}

/// Which tasks a job was applied to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditJob {
    state: String,
    filter: String,
    /// Whether it was applied to all of them. False while it is in progress, and if it was stopped or failed.
    complete: bool,
}

/// The payload before an edit.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditOldPayload {
    /// The payload as JSON text. The start of it if it is longer than 4 KiB.
    before: String,
    complete: bool,
    /// Top-level fields that were added or removed, or whose type changed, in words.
    shape: Vec<String>,
}

impl From<AuditEntry> for Change {
    fn from(entry: AuditEntry) -> Self {
        let text = entry.describe();
        let (by, from) = entry.by.map(|by| (by.name, by.from)).unzip();
        Self {
            id: entry.id.to_string(),
            at: time(entry.at),
            by,
            from: from.flatten(),
            action: entry.action,
            target: entry.on.kind().to_owned(),
            name: entry.on.name().to_string(),
            text,
            tasks: entry.tasks.iter().map(ToString::to_string).collect(),
            done: entry.done,
            refused: entry.refused,
            reason: entry.reason,
            destination: entry.destination.map(|queue| queue.to_string()),
            enqueued: entry.enqueued.map(|task| AuditTask {
                queue: task.queue.to_string(),
                id: task.id.to_string(),
            }),
            job: entry.bulk.map(|bulk| AuditJob {
                state: bulk.state,
                filter: bulk.filter,
                complete: bulk.is_complete,
            }),
            edit: entry.edit.map(|edit| AuditOldPayload {
                before: edit.before,
                complete: edit.is_complete,
                shape: edit.shape,
            }),
            details: entry.details,
            error: entry.error,
        }
    }
}

impl AuditParams {
    fn query(self) -> Result<AuditQuery, ApiError> {
        let mut query = AuditQuery::default();
        let queue = self.queue.map(Name::from);
        query.task = match (&queue, self.task) {
            (_, None) => None,
            (Some(queue), Some(id)) => Some(TaskRef::new(queue.clone(), TaskId::new(&id)?)),
            (None, Some(_)) => return Err(ApiError::bad("`task` requires `queue`")),
        };
        query.on = match (queue, self.schedule) {
            (Some(_), Some(_)) => {
                let why = "`queue` and `schedule` exclude each other: expected one of them";
                return Err(ApiError::bad(why));
            }
            (None, Some(entry)) => Some(AuditTarget::Schedule(entry.into())),
            // The entry of a task may be that of the schedule entry that it was triggered by.
            (queue, None) => queue
                .map(AuditTarget::Queue)
                .filter(|_| query.task.is_none()),
        };
        query.actor = self.by;
        let bound = |text: Option<String>| text.as_deref().map(moment).transpose();
        query.from = bound(self.from)
            .map_err(ApiError::bad)?
            .unwrap_or(query.from);
        query.until = bound(self.until)
            .map_err(ApiError::bad)?
            .unwrap_or(query.until);
        if !(1..=200).contains(&self.limit) {
            let limit = self.limit;
            return Err(ApiError::bad(format!(
                "`limit` is {limit}: expected 1 to 200"
            )));
        }
        query.limit = self.limit;
        let after = self.after.map(|after| after.parse::<AuditCursor>());
        query.after = after.transpose().map_err(ApiError::bad)?;
        Ok(query)
    }
}

/// Returns who changed what, newest first: changes by users of the monitor and by programs, and deployments.
#[utoipa::path(get, path = "/api/audit", params(AuditParams), responses((status = 200, description = "The changes.", body = Changes)))]
pub(super) async fn list_changes(
    view: View,
    Query(params): Query<AuditParams>,
) -> Result<Json<Changes>, ApiError> {
    let page = view.inspector.audit(&params.query()?).await?;
    Ok(Json(Changes {
        changes: page.entries.into_iter().map(Change::from).collect(),
        next: page.next.map(|next| next.to_string()),
    }))
}
