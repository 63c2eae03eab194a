//! One task: its details, its history and its actions.

use std::sync::Arc;

use asynqueue_core::{
    broker::TaskInfo,
    inspector::{ActionKind, ActionTarget},
    task::{Name, TaskId, TaskRef, TaskState},
};
use axum::extract::{Path, Query};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use super::{button, no_default, queue::offered, timeline::timeline, why};
use crate::web::{
    links::encoded,
    reading::{audit::of_task, queue::running_on},
    request::{Failed, View},
    show,
    version::{version_of_payload, version_of_task},
};

#[derive(Debug, Deserialize)]
pub(crate) struct Params {
    did: Option<String>,
}

pub(crate) async fn show(
    view: View,
    Path((queue, id)): Path<(String, String)>,
    Query(params): Query<Params>,
) -> Result<Markup, Failed> {
    let task = TaskRef::new(Name::from(queue), TaskId::new(&id)?);
    let live = &view.shared.live;
    let read = view.inspector.task(&task);
    let found = live.read(&live.tasks, task.clone(), read).await?;
    let Some(info) = &*found else {
        let missing = format!(
            "Task {task} does not exist. It may have been deleted, or completed without `retention`."
        );
        return Err(view.missing_task(&task, missing).await);
    };
    let servers = live.servers().await?;
    let running = running_on(&servers, info);
    let read = view.inspector.why_task_waits(&task);
    let wait = match info.state {
        TaskState::Active | TaskState::Completed | TaskState::Archived => Arc::default(),
        _ => live.read(&live.waits, task.clone(), read).await?,
    };
    let read = of_task(&view.inspector, &task, info.envelope.enqueued_at);
    let changes = live.read(&live.changes, task.clone(), read).await?;
    let version = version_of_task(&view.inspector, Some(info));
    let fresh = |id: &str, content: Markup| {
        html! {
            div id=(id) data-fresh="task" data-version=(version) data-queue=(task.queue) data-id=(task.id) { (content) }
        }
    };
    Ok(view.page(task.id.as_str(), html! {
        (view.notice(params.did.as_deref()))
        (fresh("task", html! {
            p.crumbs {
                a href=(view.links.queue(&task.queue)) { (task.queue) } " › "
                a href=(view.links.state(&task.queue, info.state)) { (info.state.as_str()) }
            }
            @if view.may_change() { (actions(&view, info)) }
        }))
        (why::of_task(&view, wait.as_ref().as_ref(), &servers))
        div.columns {
            section { h2 { "Payload" } (payload(&view, info)) }
            section { h2 { "Details" } (fresh("details", details(&view, info))) }
        }
        (fresh("events", html! {
            (outcome(&view, info))
            section { h2 { "Timeline" } (timeline(&view, info, running, &changes)) (more_changes(&view, &task)) }
        }))
        @if !info.envelope.headers.is_empty() {
            section {
                h2 { "Headers" }
                dl { @for (key, value) in info.envelope.headers.iter() { dt { (key) } dd { code { (value) } } } }
            }
        }
    }))
}

/// Jobs do not list their tasks, so their changes are not in the timeline.
fn more_changes(view: &View, task: &TaskRef) -> Markup {
    let audit = view.links.page("audit");
    html! {
        p { a href=(format!("{audit}?queue={}", encoded(&task.queue))) { "Changes of the queue, with jobs" } }
    }
}

/// The progress and the result.
fn outcome(view: &View, info: &TaskInfo) -> Markup {
    html! {
        @if let Some(result) = view.inspector.result(info) {
            section { h2 { "Result" } pre { (pretty(&result)) } }
        }
        @if let Some(progress) = &info.progress {
            section {
                h2 { "Progress" }
                progress max=(progress.total) value=(progress.done) aria-label="Progress" {}
                " " (show::percent(progress.done, progress.total)) ", " (show::number(progress.done)) " of " (show::number(progress.total))
                @if !progress.note.is_empty() { ": " (progress.note) }
            }
        }
    }
}

fn pretty(value: &Value) -> String {
    // Serializing a `Value` does not fail in practice.
    serde_json::to_string_pretty(value).unwrap_or_else(|error| error.to_string())
}

fn actions(view: &View, info: &TaskInfo) -> Markup {
    let task = info.envelope.task_ref();
    html! {
        form.actions method="post" action=(format!("{}/tasks", view.links.queue(&task.queue))) {
            input type="hidden" name="state" value=(info.state.as_str());
            input type="hidden" name="id" value=(task.id);
            input type="hidden" name="which" value="chosen";
            input type="hidden" name="back" value="task";
            @for kind in offered(info.state) { (button(kind, ActionTarget::Task(info.state))) }
        }
    }
}

fn payload(view: &View, info: &TaskInfo) -> Markup {
    let shown = pretty(&view.inspector.payload(info));
    let task = info.envelope.task_ref();
    let applies = |kind: ActionKind| kind.applies_to(ActionTarget::Task(info.state));
    html! {
        p.note { (info.envelope.codec.as_str()) ", " (show::bytes(info.envelope.payload.len() as u64)) }
        @if view.may_change() {
            form method="post" action=(format!("{}/tasks", view.links.queue(&task.queue))) {
                (no_default())
                input type="hidden" name="state" value=(info.state.as_str());
                input type="hidden" name="id" value=(task.id);
                input type="hidden" name="which" value="chosen";
                input type="hidden" name="back" value="task";
                input type="hidden" name="do" value=(ActionKind::Edit);
                input type="hidden" name="seen" value=(version_of_payload(&view.inspector, info));
                textarea name="payload" rows=(shown.lines().count().clamp(4, 30)) spellcheck="false" aria-label="Payload as JSON" {
                    "\n" (shown)
                }
                div.actions {
                    @if applies(ActionKind::Edit) {
                        button { "Save" }
                        @if applies(ActionKind::Run) { button name="then" value=(ActionKind::Run) { "Save and run" } }
                    }
                    button formaction=(view.links.task(&task)) { "Run a copy" }
                }
                p.note { "A copy has a new ID and keeps the idempotency key " code { (origin(info)) } "." }
            }
        } @else {
            pre { (shown) }
        }
    }
}

/// The idempotency key: the ID of the task, or of the task that it is a copy of.
fn origin(info: &TaskInfo) -> &TaskId {
    info.envelope.origin().unwrap_or(&info.envelope.id)
}

fn details(view: &View, info: &TaskInfo) -> Markup {
    let (envelope, options) = (&info.envelope, &info.envelope.options);
    html! {
        dl {
            dt { "State" } dd { (info.state.as_str()) }
            dt { "Event" } dd { (envelope.event) }
            @if let Some(origin) = envelope.origin() {
                dt { "Copy of" } dd { a.id href=(view.links.task(&TaskRef::new(envelope.queue.clone(), origin.clone()))) { (origin) } }
            }
            @if let Some(lease) = &info.lease {
                dt { "Worker" } dd { (lease.worker) ", lease expires " (view.time(lease.until)) }
            }
            dt { "Enqueued" } dd { (view.time(envelope.enqueued_at)) }
            dt { "Failed attempts" } dd { (show::number(envelope.attempts.into())) " of " (show::number(options.max_retry.saturating_add(1).into())) }
            dt { "Timeout" } dd { (show::duration(options.timeout)) }
            @if let Some(deadline) = envelope.deadline { dt { "Deadline" } dd { (view.time(deadline)) } }
            @if let Some(expires) = envelope.expires_at() { dt { "Expires" } dd { (view.time(expires)) } }
            @if options.priority > 0 { dt { "Priority" } dd { (options.priority) } }
            @if let Some(group) = &options.group { dt { "Group" } dd { (group) } }
            @if let Some(key) = view.inspector.unique_key(info) { dt { "Unique key" } dd { code { (key) } } }
            @if !options.retention.is_zero() { dt { "Retention" } dd { (show::duration(options.retention)) } }
            @if let Some(trace) = envelope.headers.get("traceparent").and_then(|parent| parent.get(3..35)) {
                dt { "Trace ID" } dd { code { (trace) } }
            }
        }
    }
}
