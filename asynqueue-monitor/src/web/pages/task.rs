//! One task: what it is, what has happened to it, and what to do about it.

use asynqueue_core::{
    broker::{BrokerError, RunningTask, TaskInfo},
    task::{Name, TaskId, TaskRef, TaskState},
};
use axum::extract::{Path, Query};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Failed, View,
    queue::{actions_of, no_default},
    timeline::timeline,
};
use crate::web::{
    live::{version, version_of_task},
    show,
};

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    did: Option<String>,
}

pub(crate) async fn show(
    view: View,
    Path((queue, id)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Result<Markup, Failed> {
    let id = TaskId::new(&id).map_err(|error| Failed::BadRequest(error.to_string()))?;
    let task = TaskRef::new(Name::from(queue), id);
    let live = &view.shared.live;
    let read = view.inspector.task(&task);
    let found = live.read(&live.tasks, task.clone(), read).await?;
    let Some(info) = &*found else {
        let gone = format!(
            "Task {task} is not there: it never was, or is done and not kept, or was deleted."
        );
        return Err(Failed::NotFound(gone));
    };
    let running = running(&view, info).await?;
    let version = version_of_task(&view.inspector, Some(info));
    let fresh = |id: &str, content: Markup| {
        html! {
            div id=(id) data-fresh="task" data-version=(version) data-queue=(task.queue) data-id=(task.id) { (content) }
        }
    };
    Ok(view.page(task.id.as_str(), html! {
        (view.notice(asked.did.as_deref()))
        (fresh("task", html! {
            p.crumbs {
                a href=(view.links.queue(&task.queue)) { (task.queue) } " › "
                a href=(view.links.state(&task.queue, info.state)) { (info.state.as_str()) }
            }
            @if view.may_change() { (actions(&view, info)) }
        }))
        div.columns {
            section { h2 { "Payload" } (payload(&view, info)) }
            section { h2 { "Facts" } (fresh("facts", facts(&view, info))) }
        }
        (fresh("events", html! {
            (outcome(&view, info))
            section { h2 { "Timeline" } (timeline(&view, info, running.as_ref())) }
        }))
        @if !info.envelope.headers.is_empty() {
            section {
                h2 { "Headers" }
                dl { @for (key, value) in info.envelope.headers.iter() { dt { (key) } dd { code { (value) } } } }
            }
        }
    }))
}

/// What a server tells of the attempt that goes on.
async fn running(view: &View, info: &TaskInfo) -> Result<Option<RunningTask>, BrokerError> {
    if info.lease.is_none() {
        return Ok(None);
    }
    let task = info.envelope.task_ref();
    let servers = view.shared.live.servers().await?;
    let running = servers.into_iter().flat_map(|server| server.running);
    Ok(running.filter(|running| running.task == task).last())
}

/// How far it is, and what has come of it.
fn outcome(view: &View, info: &TaskInfo) -> Markup {
    html! {
        @if let Some(result) = view.inspector.result(info) {
            section { h2 { "Result" } pre { (pretty(&result)) } }
        }
        @if let Some(progress) = &info.progress {
            section {
                h2 { "Progress" }
                progress max=(progress.total) value=(progress.done) aria-label="Progress" {}
                " " (progress.done) " of " (progress.total) " " (progress.note)
            }
        }
    }
}

/// Tells whether a payload is as it was on a page.
pub(in crate::web) fn version_of_payload(view: &View, info: &TaskInfo) -> String {
    version(view.inspector.payload(info))
}

fn pretty(value: &Value) -> String {
    // A value that was shown as JSON can be written as such.
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
            @for (name, label, destroys) in actions_of(info.state) {
                button.danger[*destroys] name="do" value=(name) data-confirm=[destroys.then(|| format!("{label}?"))] { (label) }
            }
        }
    }
}

fn payload(view: &View, info: &TaskInfo) -> Markup {
    let shown = pretty(&view.inspector.payload(info));
    let task = info.envelope.task_ref();
    let can_edit = !matches!(info.state, TaskState::Active | TaskState::Completed);
    html! {
        p.note { (info.envelope.codec.as_str()) ", " (show::bytes(info.envelope.payload.len() as u64)) }
        @if view.may_change() {
            form method="post" action=(format!("{}/tasks", view.links.queue(&task.queue))) {
                (no_default())
                input type="hidden" name="state" value=(info.state.as_str());
                input type="hidden" name="id" value=(task.id);
                input type="hidden" name="which" value="chosen";
                input type="hidden" name="back" value="task";
                input type="hidden" name="seen" value=(version_of_payload(view, info));
                textarea name="payload" rows=(shown.lines().count().clamp(4, 30)) spellcheck="false" aria-label="Payload as JSON" {
                    "\n" (shown)
                }
                div.actions {
                    @if can_edit {
                        button name="do" value="edit" { "Save" }
                        @if info.state != TaskState::Pending { button name="do" value="edit and run" { "Save and run" } }
                    }
                    button name="do" value="again" formaction=(view.links.task(&task)) { "Run as a new task" }
                }
            }
        } @else {
            pre { (shown) }
        }
    }
}

fn facts(view: &View, info: &TaskInfo) -> Markup {
    let (envelope, options) = (&info.envelope, &info.envelope.options);
    html! {
        dl {
            dt { "State" } dd { (info.state.as_str()) }
            dt { "Event" } dd { (envelope.event) }
            @if let Some(lease) = &info.lease {
                dt { "Runs on" } dd { (lease.worker) ", lease ends " (view.time(lease.until)) }
            }
            dt { "Enqueued" } dd { (view.time(envelope.enqueued_at)) }
            dt { "Failed" } dd { (envelope.attempts) " of " (options.max_retry.saturating_add(1)) " attempts" }
            dt { "Timeout" } dd { (show::duration(options.timeout)) }
            @if let Some(deadline) = envelope.deadline { dt { "Deadline" } dd { (view.time(deadline)) } }
            @if let Some(expires) = envelope.expires_at() { dt { "Worth starting until" } dd { (view.time(expires)) } }
            @if options.priority > 0 { dt { "Priority" } dd { (options.priority) } }
            @if let Some(group) = &options.group { dt { "Group" } dd { (group) } }
            @if let Some(key) = view.inspector.unique_key(info) { dt { "Unique key" } dd { code { (key) } } }
            @if !options.retention.is_zero() { dt { "Kept for" } dd { (show::duration(options.retention)) } }
            @if let Some(trace) = envelope.headers.get("traceparent").and_then(|parent| parent.get(3..35)) {
                dt { "Trace" } dd { code { (trace) } }
            }
        }
    }
}
