//! One task: what it is, what has happened to it, and what to do about it.

use asynqueue_core::{Attempt, Name, TaskId, TaskInfo, TaskRef, TaskState};
use axum::extract::{Path, Query};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use super::{Failed, View, notice, queue::actions_of};
use crate::web::{live::version, show};

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
    let Some(info) = view.inspector.task(&task).await? else {
        let gone = format!(
            "Task {task} is not there: it never was, or is done and not kept, or was deleted."
        );
        return Err(Failed::NotFound(gone));
    };
    let fresh = |id: &str, content: Markup| {
        html! {
            div id=(id) data-fresh="task" data-version=(version(Some(&info))) data-queue=(task.queue) data-id=(task.id) { (content) }
        }
    };
    Ok(view.page(task.id.as_str(), html! {
        (notice(asked.did.as_deref()))
        (fresh("task", html! {
            p.crumbs {
                a href=(view.links.queue(&task.queue)) { (task.queue) } " › "
                a href=(view.links.state(&task.queue, info.state)) { (info.state.as_str()) }
            }
            @if view.may_change() { (actions(&view, &info)) }
        }))
        div.columns {
            section { h2 { "Payload" } (payload(&view, &info)) }
            section { h2 { "Facts" } (fresh("facts", facts(&view, &info))) }
        }
        (fresh("events", events(&view, &info)))
        @if !info.envelope.headers.is_empty() {
            section {
                h2 { "Headers" }
                dl { @for (key, value) in info.envelope.headers.iter() { dt { (key) } dd { code { (value) } } } }
            }
        }
    }))
}

/// What has happened to it so far.
fn events(view: &View, info: &TaskInfo) -> Markup {
    html! {
        @if let Some(result) = view.inspector.result(info) {
            section { h2 { "Result" } pre { (pretty(&result)) } }
        }
        @if let Some(progress) = &info.progress {
            section {
                h2 { "Progress" }
                progress max=(progress.total) value=(progress.done) {}
                " " (progress.done) " of " (progress.total) " " (progress.note)
            }
        }
        section { h2 { "Attempts" } (attempts(view, &info.attempts())) }
        @let others: Vec<_> = info.envelope.failures().iter().filter(|failure| !failure.is_attempt()).collect();
        @if !others.is_empty() {
            section {
                h2 { "Put aside" }
                ul.events { @for other in others {
                    li { span.kind { (other.kind) } " " (view.time(other.at)) pre.message { (other.message) } }
                } }
            }
        }
    }
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
    let can_edit =
        view.may_change() && !matches!(info.state, TaskState::Active | TaskState::Completed);
    html! {
        p.note { (info.envelope.codec.as_str()) ", " (show::bytes(info.envelope.payload.len() as u64)) }
        @if can_edit {
            form method="post" action=(format!("{}/tasks", view.links.queue(&task.queue))) {
                input type="hidden" name="state" value=(info.state.as_str());
                input type="hidden" name="id" value=(task.id);
                input type="hidden" name="which" value="chosen";
                input type="hidden" name="back" value="task";
                textarea name="payload" rows=(shown.lines().count().clamp(4, 30)) spellcheck="false" aria-label="Payload as JSON" {
                    "\n" (shown)
                }
                div.actions {
                    button name="do" value="edit" { "Save" }
                    @if info.state != TaskState::Pending { button name="do" value="edit and run" { "Save and run" } }
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
            @if let Some(at) = info.at { dt { "At" } dd { (view.time(at)) } }
            dt { "Enqueued" } dd { (view.time(envelope.enqueued_at)) }
            dt { "Attempts" } dd { (envelope.attempts) " of " (options.max_retry.saturating_add(1)) }
            dt { "Timeout" } dd { (show::duration(options.timeout)) }
            @if let Some(deadline) = envelope.deadline { dt { "Deadline" } dd { (view.time(deadline)) } }
            @if let Some(expires) = envelope.expires_at() { dt { "Worth starting until" } dd { (view.time(expires)) } }
            @if options.priority > 0 { dt { "Priority" } dd { (options.priority) } }
            @if let Some(group) = &options.group { dt { "Group" } dd { (group) } }
            @if let Some(lock) = &envelope.unique { dt { "Unique key" } dd { code { (lock.key.as_str()) } } }
            @if !options.retention.is_zero() { dt { "Kept for" } dd { (show::duration(options.retention)) } }
            @if let Some(trace) = envelope.headers.get("traceparent").and_then(|parent| parent.get(3..35)) {
                dt { "Trace" } dd { code { (trace) } }
            }
        }
    }
}

fn attempts(view: &View, attempts: &[Attempt]) -> Markup {
    html! {
        @if attempts.is_empty() { p.empty { "None so far." } }
        ol.attempts { @for attempt in attempts {
            li value=(attempt.number) {
                @match &attempt.failure {
                    Some(failure) => { span.kind { (failure.kind) } },
                    None if attempt.ended.is_some() => { span.good { "succeeded" } },
                    None => { span.kind { "goes on" } },
                }
                @if let Some(ended) = attempt.ended { " " (view.time(ended)) }
                @if let (Some(started), Some(ended)) = (attempt.started, attempt.ended) {
                    ", took " (show::duration(ended.since(started)))
                }
                @if let Some(worker) = &attempt.worker { ", on " (worker) }
                @if let Some(failure) = &attempt.failure {
                    pre.message { (failure.message) }
                    @if let Some(backtrace) = &failure.backtrace {
                        details { summary { "Backtrace" } pre { (backtrace) } }
                    }
                }
            }
        } }
    }
}
