//! The JSON API below `/api`, with its OpenAPI document at `/api/openapi.json`.

mod audit;
mod document;
mod error;
mod events;
mod failures;
mod installation;
mod jobs;
mod outboxes;
mod queues;
pub(super) mod refused;
mod schedules;
mod searches;
mod system;
mod task;
mod tasks;
mod webhooks;
mod why;

use std::{sync::Arc, time::Duration};

use asynqueue_core::task::Timestamp;
use axum::{
    Router,
    http::StatusCode,
    routing::{any, delete, get, post},
};

use self::error::ApiError;
use super::{Shared, show};

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/openapi.json", get(document::show))
        .route("/api/installation", get(installation::get_installation))
        .route("/api/queues", get(queues::list_queues))
        .route(
            "/api/queues/{queue}",
            get(queues::get_queue).delete(queues::delete_queue),
        )
        .route("/api/queues/{queue}/pause", post(queues::pause_queue))
        .route("/api/queues/{queue}/resume", post(queues::resume_queue))
        .route("/api/queues/{queue}/history", get(queues::queue_history))
        .route("/api/queues/{queue}/groups", get(queues::queue_groups))
        .route("/api/queues/{queue}/why", get(why::why_queue_waits))
        .route(
            "/api/queues/{queue}/tasks/{id}/why",
            get(why::why_task_waits),
        )
        .route("/api/queues/{queue}/tasks", get(tasks::list_tasks))
        .route("/api/queues/{queue}/count", get(tasks::count_tasks))
        .route("/api/queues/{queue}/headers", get(tasks::count_headers))
        .route("/api/queues/{queue}/tasks/{id}", get(tasks::get_task))
        .route(
            "/api/queues/{queue}/tasks/{id}/again",
            post(tasks::enqueue_again),
        )
        .route("/api/queues/{queue}/actions", post(tasks::act_on_tasks))
        .route("/api/queues/{queue}/jobs", post(jobs::begin_job))
        .route("/api/jobs", get(jobs::list_jobs))
        .route("/api/jobs/{id}", delete(jobs::stop_job))
        .route("/api/searches", post(searches::start_search))
        .route(
            "/api/searches/{id}",
            get(searches::get_search).delete(searches::stop_search),
        )
        .route("/api/audit", get(audit::list_changes))
        .route("/api/find", get(tasks::find_tasks))
        .route("/api/schedules", get(schedules::list_schedules))
        .route(
            "/api/schedules/{entry}/events",
            get(schedules::schedule_events),
        )
        .route(
            "/api/schedules/{entry}/pause",
            post(schedules::pause_schedule),
        )
        .route(
            "/api/schedules/{entry}/resume",
            post(schedules::resume_schedule),
        )
        .route(
            "/api/schedules/{entry}/trigger",
            post(schedules::trigger_schedule),
        )
        .route("/api/events", get(events::list_events))
        .route("/api/events/{event}", get(events::event_course))
        .route("/api/failures", get(failures::list_failures))
        .route("/api/failures/{cause}", get(failures::get_failure))
        .route("/api/failures/{cause}/retry", post(failures::retry_failure))
        .route("/api/attention", get(system::list_concerns))
        .route("/api/servers", get(system::list_servers))
        .route("/api/servers/{server}/quiet", post(system::quiet_server))
        .route("/api/servers/{server}/resume", post(system::resume_server))
        .route("/api/subscriptions", get(system::list_subscriptions))
        .route("/api/outboxes", get(outboxes::list_outboxes))
        .route(
            "/api/outboxes/{outbox}/retry",
            post(outboxes::retry_entries),
        )
        .route(
            "/api/outboxes/{outbox}/entries/{entry}",
            delete(outboxes::delete_entry),
        )
        .route(
            "/api/outboxes/{outbox}/entries/{entry}/retry",
            post(outboxes::retry_entry),
        )
        .route("/api/webhooks", get(webhooks::list_webhooks))
        .route("/api/webhooks/{place}/test", post(webhooks::test_webhook))
        .route("/api/nodes", get(system::list_nodes))
        .route("/api", any(not_found))
        .route("/api/{*rest}", any(not_found))
}

async fn not_found() -> ApiError {
    let why = "unknown API path: see `/api/openapi.json` for all operations";
    ApiError::new(StatusCode::NOT_FOUND, why)
}

/// The default number of entries on a page.
fn fifty() -> usize {
    50
}

/// A time in RFC 3339 format.
fn time(time: Timestamp) -> String {
    show::utc(time)
}

fn millis(duration: Duration) -> u64 {
    // Many clients parse integers as `i64`.
    duration.as_millis().min(i64::MAX as u128) as u64
}
