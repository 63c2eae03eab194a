//! The description of the API, as OpenAPI 3.1 has it.

use axum::Json;
use serde_json::{Value, json};
use utoipa::OpenApi;

use super::{
    error::{ApiError, Error},
    jobs, queues, schedules, system, tasks,
};
use crate::web::request::View;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "asynqueue monitor",
        description = "What the queues hold, what runs, what failed and why, and what to do about it."
    ),
    paths(
        queues::list_queues,
        queues::get_queue,
        queues::delete_queue,
        queues::pause_queue,
        queues::resume_queue,
        queues::queue_history,
        queues::queue_groups,
        tasks::list_tasks,
        tasks::get_task,
        tasks::enqueue_again,
        tasks::act_on_tasks,
        tasks::find_tasks,
        jobs::begin_job,
        jobs::list_jobs,
        jobs::stop_job,
        schedules::list_schedules,
        schedules::schedule_events,
        schedules::pause_schedule,
        schedules::resume_schedule,
        schedules::trigger_schedule,
        system::list_concerns,
        system::list_servers,
        system::quiet_server,
        system::resume_server,
        system::list_subscriptions,
        system::list_nodes,
    ),
    components(schemas(Error))
)]
struct Document;

/// What every request may be answered with, whatever it asks for.
const COMMON: [(&str, &str, bool); 8] = [
    ("400", "The request is invalid.", true),
    ("401", "A name and a password are asked for.", false),
    (
        "403",
        "Whoever asks may look only, or another site makes them ask.",
        false,
    ),
    ("404", "There is no such thing.", true),
    ("413", "What is sent is too large.", true),
    ("415", "What is sent is not said to be JSON.", true),
    (
        "429",
        "Too many wrong passwords came from there, or too many jobs go on.",
        true,
    ),
    ("503", "The broker does not answer.", true),
];

pub(super) async fn show(view: View) -> Result<Json<Value>, ApiError> {
    let document = serde_json::to_value(Document::openapi()).map_err(ApiError::bad)?;
    Ok(Json(completed(document, &view.links.page(""))))
}

/// The document with where this monitor is, and what may go wrong everywhere.
fn completed(mut document: Value, mounted_at: &str) -> Value {
    document["servers"] = json!([{ "url": mounted_at }]);
    document["components"]["securitySchemes"] =
        json!({ "password": { "type": "http", "scheme": "basic" } });
    // Without users, nothing is asked for.
    document["security"] = json!([{}, { "password": [] }]);
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    let operations = paths.flat_map(|(_, path)| path.as_object_mut().into_iter().flatten());
    for (_, operation) in operations {
        for (status, description, is_json) in COMMON {
            let content = match is_json {
                true => {
                    json!({ "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } })
                }
                false => json!({ "text/plain": { "schema": { "type": "string" } } }),
            };
            let known = &mut operation["responses"][status];
            if known.is_null() {
                *known = json!({ "description": description, "content": content });
            }
        }
    }
    document
}
