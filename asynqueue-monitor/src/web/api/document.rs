//! The OpenAPI 3.1 document of the API.

use axum::Json;
use serde_json::{Value, json};
use utoipa::OpenApi;

use super::{
    audit,
    error::{ApiError, Error},
    events, failures, installation, jobs, outboxes, queues, schedules, searches, system, tasks,
    webhooks, why,
};
use crate::web::request::View;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "asynqueue monitor",
        description = "Inspect queues, tasks, servers and schedules, and act on them."
    ),
    paths(
        installation::get_installation,
        queues::list_queues,
        queues::get_queue,
        queues::delete_queue,
        queues::pause_queue,
        queues::resume_queue,
        queues::queue_history,
        queues::queue_groups,
        why::why_queue_waits,
        why::why_task_waits,
        tasks::list_tasks,
        tasks::count_tasks,
        tasks::count_headers,
        tasks::get_task,
        tasks::enqueue_again,
        tasks::act_on_tasks,
        tasks::find_tasks,
        searches::start_search,
        searches::get_search,
        searches::stop_search,
        jobs::begin_job,
        jobs::list_jobs,
        jobs::stop_job,
        schedules::list_schedules,
        schedules::schedule_events,
        schedules::pause_schedule,
        schedules::resume_schedule,
        schedules::trigger_schedule,
        events::list_events,
        events::event_course,
        failures::list_failures,
        failures::get_failure,
        failures::retry_failure,
        audit::list_changes,
        system::list_concerns,
        system::list_servers,
        system::quiet_server,
        system::resume_server,
        system::list_subscriptions,
        system::list_nodes,
        webhooks::list_webhooks,
        webhooks::test_webhook,
        outboxes::list_outboxes,
        outboxes::retry_entries,
        outboxes::retry_entry,
        outboxes::delete_entry,
    ),
    components(schemas(Error))
)]
struct Document;

/// The responses that every operation may return.
const COMMON: [(&str, &str); 8] = [
    ("400", "The request is invalid."),
    ("401", "Authentication is required."),
    (
        "403",
        "The user has read-only access, or the request is cross-site.",
    ),
    ("404", "The resource does not exist."),
    ("413", "The request body is too large."),
    ("415", "The content type of the request is not JSON."),
    (
        "429",
        "Too many failed logins from this address, or too many unfinished jobs.",
    ),
    ("503", "The broker is not responding."),
];

pub(super) async fn show(view: View) -> Result<Json<Value>, ApiError> {
    let document = serde_json::to_value(Document::openapi()).map_err(ApiError::bad)?;
    Ok(Json(completed(document, &view.links.page(""))))
}

/// Adds the URL of this monitor and the common responses to the document.
fn completed(mut document: Value, mounted_at: &str) -> Value {
    document["servers"] = json!([{ "url": mounted_at }]);
    document["components"]["securitySchemes"] =
        json!({ "password": { "type": "http", "scheme": "basic" } });
    // Without users, no authentication is required.
    document["security"] = json!([{}, { "password": [] }]);
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    let operations = paths.flat_map(|(_, path)| path.as_object_mut().into_iter().flatten());
    for (_, operation) in operations {
        for (status, description) in COMMON {
            let schema = json!({ "$ref": "#/components/schemas/Error" });
            let content = json!({ "application/json": { "schema": schema } });
            let known = &mut operation["responses"][status];
            if known.is_null() {
                *known = json!({ "description": description, "content": content });
            }
        }
    }
    document
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    /// The document has one schema for each name: the second of two would be lost.
    #[test]
    fn each_schema_has_a_unique_name() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web/api");
        let mut names = BTreeSet::new();
        for file in fs::read_dir(folder).expect("the folder") {
            let text = fs::read_to_string(file.expect("a file").path()).expect("text");
            for part in text.split("ToSchema)]\n").skip(1) {
                let words: Vec<_> = part.split_whitespace().collect();
                let renamed = part.trim_start().strip_prefix("#[schema(as = ");
                let name = renamed.and_then(|rest| rest.split(')').next());
                let kind = |word: &&str| matches!(*word, "struct" | "enum");
                let place = words.iter().position(kind).expect("a type");
                let name = name.unwrap_or(words[place + 1]);
                let name = name.split(['<', ';']).next().unwrap_or(name).to_owned();
                assert!(names.insert(name.clone()), "two schemas are named `{name}`");
            }
        }
        assert!(names.len() > 20, "{names:?}");
    }
}
