//! Schedule entries.

use asynqueue_core::{
    broker::{FireOutcome, Pausable, Pause, ScheduleEntry, ScheduleEvent},
    inspector::ActionKind,
    scheduler::ScheduleError,
    task::Name,
};
use axum::{Json, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    error::{ApiError, Path, Query},
    queues::PauseReason,
    time,
    why::PauseRecord,
};
use crate::web::{changes::audit, request::View};

/// One schedule entry.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Entry {
    name: String,
    /// The rule, such as `0 9 * * mon`.
    rule: String,
    event: String,
    queue: String,
    /// The next tick. Null if there is none.
    next: Option<String>,
    paused: bool,
    /// Who paused the entry. Null if it is not paused, or that was not recorded.
    pause: Option<PauseRecord>,
    /// Where the entry is defined: `code`, `runtime`, or `file:` with the path of the schedule file.
    source: String,
}

impl Entry {
    fn new(entry: ScheduleEntry, pause: Option<Pause>) -> Self {
        Self {
            name: entry.name.to_string(),
            rule: entry.rule,
            event: entry.template.event.to_string(),
            queue: entry.template.queue.to_string(),
            next: entry.next.map(time),
            paused: entry.paused,
            pause: pause.map(PauseRecord::from),
            source: entry.source,
        }
    }
}

/// The outcome of a tick.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Event {
    /// When the tick was due.
    #[schema(format = DateTime)]
    tick: String,
    /// When the tick was handled.
    #[schema(format = DateTime)]
    at: String,
    /// `enqueued`, `refused` or `skipped`.
    outcome: &'static str,
    /// The ID of the task, or why none was enqueued.
    detail: String,
}

impl From<ScheduleEvent> for Event {
    fn from(event: ScheduleEvent) -> Self {
        let (outcome, detail) = match event.outcome {
            FireOutcome::Enqueued(task) => ("enqueued", task.id.to_string()),
            FireOutcome::Refused(reason) => ("refused", reason.to_string()),
            FireOutcome::Skipped(reason) => ("skipped", reason.to_string()),
            _ => ("other", String::new()),
        };
        Self {
            tick: time(event.tick),
            at: time(event.at),
            outcome,
            detail,
        }
    }
}

/// An enqueued task.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Enqueued {
    queue: String,
    id: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Last {
    #[serde(default = "twenty")]
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: usize,
}

fn twenty() -> usize {
    20
}

/// Lists all schedule entries by name.
#[utoipa::path(get, path = "/api/schedules", responses((status = 200, description = "The entries.", body = Vec<Entry>)))]
pub(super) async fn list_schedules(view: View) -> Result<Json<Vec<Entry>>, ApiError> {
    let entries = view.inspector.schedules().await?;
    let paused = entries.iter().filter(|entry| entry.paused);
    let paused: Vec<_> = paused
        .map(|entry| Pausable::Schedule(entry.name.clone()))
        .collect();
    let mut pauses = match paused.is_empty() {
        true => Vec::new(),
        false => view.inspector.pauses(&paused).await?,
    }
    .into_iter();
    let entry = |entry: ScheduleEntry| {
        let pause = entry.paused.then(|| pauses.next()).flatten().flatten();
        Entry::new(entry, pause)
    };
    Ok(Json(entries.into_iter().map(entry).collect()))
}

/// Returns the outcomes of the recent ticks of an entry, newest first.
#[utoipa::path(get, path = "/api/schedules/{entry}/events", params(("entry" = String, Path, example = "digest"), Last), responses((status = 200, description = "The ticks.", body = Vec<Event>)))]
pub(super) async fn schedule_events(
    view: View,
    Path(entry): Path<String>,
    Query(Last { limit }): Query<Last>,
) -> Result<Json<Vec<Event>>, ApiError> {
    if !(1..=100).contains(&limit) {
        return Err(ApiError::bad(format!(
            "`limit` is {limit}: expected 1 to 100"
        )));
    }
    let entry = Name::from(entry);
    let events = view.inspector.schedule_events(&entry, limit).await?;
    if events.is_empty() {
        let mut entries = view.inspector.schedules().await?.into_iter();
        let is_known = entries.any(|known| known.name == entry);
        let missing = || ScheduleError::Unknown {
            entry: entry.to_string(),
        };
        is_known.then_some(()).ok_or_else(missing)?;
    }
    Ok(Json(events.into_iter().map(Event::from).collect()))
}

/// Pauses an entry: it skips its ticks until it is resumed.
#[utoipa::path(post, path = "/api/schedules/{entry}/pause", params(("entry" = String, Path, example = "digest"), PauseReason), responses((status = 204, description = "The entry is paused.")))]
pub(super) async fn pause_schedule(
    view: View,
    Path(entry): Path<String>,
    Query(PauseReason { reason }): Query<PauseReason>,
) -> Result<StatusCode, ApiError> {
    let timetable = view.inspector.timetable();
    timetable.pause_because(&entry, reason).await?;
    audit(&view, ActionKind::Pause.as_str(), &entry, "paused");
    Ok(StatusCode::NO_CONTENT)
}

/// Resumes an entry from its next tick.
#[utoipa::path(post, path = "/api/schedules/{entry}/resume", params(("entry" = String, Path, example = "digest")), responses((status = 204, description = "The entry is resumed.")))]
pub(super) async fn resume_schedule(
    view: View,
    Path(entry): Path<String>,
) -> Result<StatusCode, ApiError> {
    view.inspector.timetable().resume(&entry).await?;
    audit(&view, ActionKind::Resume.as_str(), &entry, "resumed");
    Ok(StatusCode::NO_CONTENT)
}

/// Triggers an entry: enqueues its task now.
#[utoipa::path(post, path = "/api/schedules/{entry}/trigger", params(("entry" = String, Path, example = "digest")), responses((status = 200, description = "The task.", body = Enqueued)))]
pub(super) async fn trigger_schedule(
    view: View,
    Path(entry): Path<String>,
) -> Result<Json<Enqueued>, ApiError> {
    let task = view.inspector.timetable().trigger(&entry).await?;
    audit(
        &view,
        ActionKind::Trigger.as_str(),
        &entry,
        &task.to_string(),
    );
    Ok(Json(Enqueued {
        queue: task.queue.to_string(),
        id: task.id.to_string(),
    }))
}
