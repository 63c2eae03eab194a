//! Outboxes and their failed entries.

use asynqueue_core::{
    broker::{OutboxAction, OutboxInfo},
    inspector::ActionKind,
    task::{Name, Timestamp},
};
use axum::{Json, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    error::{ApiError, Path},
    time,
};
use crate::web::{
    changes::{audit, change_outbox},
    request::View,
};

/// An outbox, as its relay has reported it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Outbox {
    id: String,
    name: String,
    /// The machine and the process of the relay.
    host: String,
    pid: u32,
    /// When the relay took over.
    #[schema(format = DateTime)]
    since: String,
    /// The time of the last report.
    #[schema(format = DateTime)]
    seen: String,
    /// Whether no relay reports any more. Such outboxes are listed for a week.
    lost: bool,
    /// Entries that wait to be relayed.
    waiting: u64,
    /// How long the oldest of them has been waiting.
    oldest_ms: u64,
    /// Tasks that the broker has accepted since the relay took over.
    accepted: u64,
    /// Tasks that the broker has refused for a conflict since then.
    refused: u64,
    /// Why entries wait.
    error: Option<String>,
    failed: u64,
    /// The oldest failed entries.
    entries: Vec<FailedEntry>,
}

/// A failed entry.
#[derive(Debug, Serialize, ToSchema)]
struct FailedEntry {
    /// The number of the entry in its table.
    entry: u64,
    queue: String,
    id: String,
    event: String,
    #[schema(format = DateTime)]
    written: String,
    reason: String,
}

impl Outbox {
    fn new(outbox: OutboxInfo, now: Timestamp) -> Self {
        let entry = |entry: asynqueue_core::outbox::FailedEntry| FailedEntry {
            entry: entry.place,
            queue: entry.queue.to_string(),
            id: entry.id,
            event: entry.event.to_string(),
            written: time(entry.at),
            reason: entry.reason,
        };
        Self {
            lost: outbox.is_lost(now),
            id: outbox.id.to_string(),
            name: outbox.name.to_string(),
            host: outbox.host,
            pid: outbox.pid,
            since: time(outbox.since),
            seen: time(outbox.seen),
            waiting: outbox.waiting,
            oldest_ms: outbox.age,
            accepted: outbox.accepted,
            refused: outbox.refused,
            error: outbox.error,
            failed: outbox.failed,
            entries: outbox.entries.into_iter().map(entry).collect(),
        }
    }
}

/// Lists the outboxes that were reported in the last week.
#[utoipa::path(get, path = "/api/outboxes", responses((status = 200, description = "The outboxes.", body = Vec<Outbox>)))]
pub(super) async fn list_outboxes(view: View) -> Result<Json<Vec<Outbox>>, ApiError> {
    let all = view.inspector.outboxes().await?.into_iter();
    Ok(Json(
        all.map(|outbox| Outbox::new(outbox, view.now)).collect(),
    ))
}

/// Sends all failed entries again within 5 seconds.
#[utoipa::path(post, path = "/api/outboxes/{outbox}/retry", params(("outbox" = String, Path, example = "01J")), responses((status = 204, description = "The request is recorded.")))]
pub(super) async fn retry_entries(
    view: View,
    Path(outbox): Path<String>,
) -> Result<StatusCode, ApiError> {
    change(&view, outbox, ActionKind::Retry, OutboxAction::RetryAll).await
}

/// Sends a failed entry again within 5 seconds.
#[utoipa::path(post, path = "/api/outboxes/{outbox}/entries/{entry}/retry", params(("outbox" = String, Path, example = "01J"), ("entry" = u64, Path, example = 7)), responses((status = 204, description = "The request is recorded.")))]
pub(super) async fn retry_entry(
    view: View,
    Path((outbox, entry)): Path<(String, u64)>,
) -> Result<StatusCode, ApiError> {
    change(&view, outbox, ActionKind::Retry, OutboxAction::Retry(entry)).await
}

/// Deletes a failed entry within 5 seconds.
#[utoipa::path(delete, path = "/api/outboxes/{outbox}/entries/{entry}", params(("outbox" = String, Path, example = "01J"), ("entry" = u64, Path, example = 7)), responses((status = 204, description = "The request is recorded.")))]
pub(super) async fn delete_entry(
    view: View,
    Path((outbox, entry)): Path<(String, u64)>,
) -> Result<StatusCode, ApiError> {
    change(
        &view,
        outbox,
        ActionKind::Delete,
        OutboxAction::Delete(entry),
    )
    .await
}

async fn change(
    view: &View,
    outbox: String,
    kind: ActionKind,
    action: OutboxAction,
) -> Result<StatusCode, ApiError> {
    change_outbox(view, &Name::from(outbox.as_str()), action).await?;
    let did = format!("{action:?} requested");
    audit(view, kind.as_str(), &format!("outbox {outbox}"), &did);
    Ok(StatusCode::NO_CONTENT)
}
