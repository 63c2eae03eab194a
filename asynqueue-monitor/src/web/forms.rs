//! The forms of pages. Each makes a change and redirects back to the page it was sent from.

use std::collections::HashMap;

use asynqueue_core::{
    broker::OutboxAction,
    inspector::{Action, ActionKind, ActionOutcome, ActionTarget, AuditEdit, Filter},
    task::{Name, TaskId, TaskRef},
};
use axum::{Form, extract::Path, response::Redirect};
use serde_json::Value;

use super::{
    changes::{
        MOST, action, all_matching, audit, change_outbox, check_applies, deletion, done,
        enqueue_copy, inapplicable, log, set_quiet, start, words,
    },
    jobs::summary,
    links::encoded,
    request::{Failed, View, state_of},
    show,
    version::version_of_payload,
};

/// The fields of a form. A name may occur more than once.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn get(&self, name: &str) -> &str {
        let mut found = self.0.iter().filter(|(key, _)| key == name);
        found.next().map_or("", |(_, value)| value)
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let found = self.0.iter().filter(move |(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Redirects back to a page, which shows the outcome.
fn back(page: &str, did: &str) -> Redirect {
    let sign = if page.contains('?') { '&' } else { '?' };
    Redirect::to(&format!("{page}{sign}did={}", encoded(did)))
}

/// The requested action.
fn kind_of(fields: &HashMap<String, String>) -> Result<ActionKind, Failed> {
    Ok(fields.get("do").map_or("", String::as_str).parse()?)
}

fn not_for(kind: ActionKind, to: &str, target: ActionTarget) -> Failed {
    inapplicable(kind, to, |kind| kind.applies_to(target))
}

pub(super) async fn on_queue(
    view: View,
    Path(queue): Path<String>,
    Form(fields): Form<HashMap<String, String>>,
) -> Result<Redirect, Failed> {
    let queue = view.known_queue(&queue).await?;
    let (inspector, page) = (&view.inspector, view.links.queue(&queue));
    let kind = kind_of(&fields)?;
    let (page, did) = match (kind, fields.get("name")) {
        (ActionKind::Pause, _) => {
            let reason = fields.get("reason").map_or("", String::as_str);
            let queues = std::slice::from_ref(&queue);
            inspector.pause_because(queues, reason).await?;
            (page, format!("Queue {queue} paused."))
        }
        (ActionKind::Resume, _) => {
            inspector.resume(std::slice::from_ref(&queue)).await?;
            (page, format!("Queue {queue} resumed."))
        }
        (ActionKind::Delete, None) => match inspector.delete_queue(&queue, false).await? {
            true => (view.links.page(""), format!("Queue {queue} deleted.")),
            false => (
                page,
                format!("Queue {queue} not deleted: it still has tasks."),
            ),
        },
        // To delete a queue with its tasks, the user has to type its name.
        (ActionKind::Delete, Some(typed)) if *typed == *queue => {
            inspector.delete_queue(&queue, true).await?;
            let did = format!("Queue {queue} and its tasks deleted.");
            (view.links.page(""), did)
        }
        (ActionKind::Delete, Some(_)) => {
            let did = format!("Queue {queue} not deleted: the typed name does not match.");
            (page, did)
        }
        (other, _) => return Err(not_for(other, "a queue", ActionTarget::Queue)),
    };
    audit(&view, kind.as_str(), &queue, &did);
    Ok(back(&page, &did))
}

pub(super) async fn on_tasks(
    view: View,
    Path(queue): Path<String>,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Redirect, Failed> {
    let (queue, fields) = (view.known_queue(&queue).await?, Fields(fields));
    let state = state_of(fields.get("state"))?;
    let kind: ActionKind = fields.get("do").parse()?;
    let payload = match kind {
        ActionKind::Edit => Some(payload_of(fields.get("payload"))?),
        _ => None,
    };
    let target = fields.get("to").trim().to_owned();
    let action = action(kind, "via the monitor", payload, Some(target))?;
    let filter = fields.get("filter");
    let list = view.links.state(&queue, state);
    let mut list = format!("{list}&filter={}", encoded(filter));
    for name in ["sort", "columns"] {
        if let Some(value) = Some(fields.get(name)).filter(|value| !value.is_empty()) {
            list += &format!("&{name}={}", encoded(value));
        }
    }
    if fields.get("which") == "all" {
        let matching: Filter = filter.parse()?;
        let spec = all_matching(&view, action, &queue, state, matching)?;
        if !fields.get("ask").is_empty() {
            let page = format!(
                "{}/confirm?state={}&filter={}&do={kind}&to={}",
                view.links.queue(&queue),
                state.as_str(),
                encoded(filter),
                encoded(fields.get("to").trim())
            );
            return Ok(Redirect::to(&page));
        }
        return Ok(Redirect::to(&start(&view, spec)?.page));
    }
    check_applies(&action, &queue, state)?;
    let tasks = selected(&queue, &fields)?;
    if tasks.is_empty() {
        return Ok(back(&list, "No task selected."));
    }
    if kind == ActionKind::Delete {
        let spec = deletion(&view, &queue, tasks, list);
        return Ok(Redirect::to(&start(&view, spec)?.page));
    }
    let mut shape = None;
    if kind == ActionKind::Edit {
        check_unchanged(&view, &tasks, &fields).await?;
        shape = changed_shape(&view, &tasks, &action).await?;
    }
    let inspector = &view.inspector;
    let mut outcomes = inspector.apply(&action, &tasks).await?;
    let mut did = words(kind).1.to_owned();
    // `Save and run` makes an edited task pending as well.
    let then_runs = kind == ActionKind::Edit && fields.get("then") == ActionKind::Run.as_str();
    if then_runs && done(&outcomes) == tasks.len() as u64 {
        outcomes = inspector.apply(&Action::RunNow, &tasks).await?;
        did = format!("{did} and {}", words(ActionKind::Run).1);
    }
    let mut text = outcome(&did, &outcomes);
    if done(&outcomes) > 0 {
        text.extend(shape);
    }
    audit(&view, kind.as_str(), &queue, &text);
    Ok(match (fields.get("back"), tasks.first()) {
        ("task", Some(task)) => back(&view.links.task(task), &text),
        _ => back(&list, &text),
    })
}

/// A warning if an edit changes the shape of a payload. The monitor does not know the types that handlers expect.
async fn changed_shape(
    view: &View,
    tasks: &[TaskRef],
    action: &Action,
) -> Result<Option<String>, Failed> {
    let (Action::EditPayload(after), [task]) = (action, tasks) else {
        return Ok(None);
    };
    let info = view.inspector.task(task).await?;
    let before = info.map(|info| view.inspector.payload(&info));
    let shape = before.map(|before| AuditEdit::new(&before, after).shape);
    Ok(shape.filter(|shape| !shape.is_empty()).map(|shape| {
        let changes = shape.join(", ");
        format!(" Warning: {changes}. The handler may not accept this payload.")
    }))
}

/// Rejects an edit if the payload has changed since the form was rendered.
async fn check_unchanged(view: &View, tasks: &[TaskRef], fields: &Fields) -> Result<(), Failed> {
    for task in tasks {
        let Some(info) = view.inspector.task(task).await? else {
            continue;
        };
        let (seen, now) = (
            fields.get("seen"),
            version_of_payload(&view.inspector, &info),
        );
        if !seen.is_empty() && seen != now {
            let why = format!(
                "The payload of {task} has changed since you opened it. Reload the page and edit it again."
            );
            return Err(Failed::BadRequest(why));
        }
    }
    Ok(())
}

/// Enqueues a copy of a task, with the payload of the form.
pub(super) async fn on_task(
    view: View,
    Path((queue, id)): Path<(String, String)>,
    Form(fields): Form<HashMap<String, String>>,
) -> Result<Redirect, Failed> {
    let task = TaskRef::new(Name::from(queue), TaskId::new(&id)?);
    let inspector = &view.inspector;
    let payload = payload_of(fields.get("payload").map_or("", String::as_str))?;
    let shown = inspector.task(&task).await?;
    // An unedited payload is copied as bytes, because its codec may not be able to encode the JSON that is shown.
    let is_edited = shown.is_none_or(|task| inspector.payload(&task) != payload);
    let payload = is_edited.then_some(&payload);
    let again = enqueue_copy(&view, &task, payload).await?;
    let did = format!("Enqueued as a copy of {task}.");
    Ok(back(&view.links.task(&again), &did))
}

fn payload_of(text: &str) -> Result<Value, Failed> {
    serde_json::from_str(text)
        .map_err(|error| Failed::BadRequest(format!("the payload is not valid JSON: {error}")))
}

/// The outcome of an immediate action, in words.
fn outcome(did: &str, outcomes: &[ActionOutcome]) -> String {
    let done = done(outcomes);
    let reason = outcomes.iter().find_map(|outcome| match outcome {
        ActionOutcome::Done => None,
        ActionOutcome::NotFound => Some("it no longer exists"),
        ActionOutcome::Refused(reason) => Some(reason),
    });
    summary(did, done, outcomes.len() as u64 - done, reason)
}

/// The selected tasks.
fn selected(queue: &Name, fields: &Fields) -> Result<Vec<TaskRef>, Failed> {
    let count = fields.all("id").count();
    if count > MOST {
        let (count, most) = (show::number(count as u64), show::number(MOST as u64));
        let why = format!("{count} tasks selected: expected at most {most}");
        return Err(Failed::BadRequest(why));
    }
    let ids = fields.all("id").map(TaskId::new);
    ids.map(|id| Ok(TaskRef::new(queue.clone(), id?))).collect()
}

pub(super) async fn on_job(view: View, Path(id): Path<String>) -> Result<Redirect, Failed> {
    let job = view.shared.jobs.get(&id).map_err(Failed::NotFound)?;
    job.stop();
    log(&view, "stop", &format!("job {id}"), &job.text());
    Ok(Redirect::to(&job.page))
}

pub(super) async fn on_server(
    view: View,
    Form(fields): Form<HashMap<String, String>>,
) -> Result<Redirect, Failed> {
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    let server = Name::from(field("server").to_owned());
    let kind = kind_of(&fields)?;
    let (quiet, will) = match kind {
        ActionKind::Quiet => (true, "stops leasing"),
        ActionKind::Resume => (false, "resumes leasing"),
        other => return Err(not_for(other, "a server", ActionTarget::Server)),
    };
    set_quiet(&view, &server, quiet).await?;
    let did = format!("{server} {will} within 5 seconds.");
    audit(&view, kind.as_str(), &server, &did);
    let page = match field("after") {
        "" | "0" => view.links.page("servers"),
        after => view
            .links
            .page(&format!("servers?after={}", encoded(after))),
    };
    Ok(back(&page, &did))
}

pub(super) async fn on_outbox(
    view: View,
    Form(fields): Form<HashMap<String, String>>,
) -> Result<Redirect, Failed> {
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    let outbox = Name::from(field("outbox").to_owned());
    let kind = kind_of(&fields)?;
    let (action, what) = match (kind, field("entry")) {
        (ActionKind::Retry, "") => (OutboxAction::RetryAll, "All failed entries".to_owned()),
        (ActionKind::Retry | ActionKind::Delete, entry) => {
            let place = entry.parse().map_err(|_| {
                Failed::BadRequest(format!("entry `{entry}`: expected the number of an entry"))
            })?;
            let action = match kind {
                ActionKind::Retry => OutboxAction::Retry(place),
                _ => OutboxAction::Delete(place),
            };
            (action, format!("Entry {place}"))
        }
        (other, _) => return Err(not_for(other, "an outbox", ActionTarget::Outbox)),
    };
    change_outbox(&view, &outbox, action).await?;
    let will = match kind {
        ActionKind::Retry => "sent again",
        _ => "deleted",
    };
    let did = format!("{what} will be {will} within 5 seconds.");
    audit(&view, kind.as_str(), &format!("outbox {outbox}"), &did);
    Ok(back(&view.links.page("outboxes"), &did))
}

pub(super) async fn on_schedule(
    view: View,
    Form(fields): Form<HashMap<String, String>>,
) -> Result<Redirect, Failed> {
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    let timetable = view.inspector.timetable();
    let entry = field("entry");
    let kind = kind_of(&fields)?;
    let did = match kind {
        ActionKind::Pause => {
            timetable.pause_because(entry, field("reason")).await?;
            format!("Schedule entry {entry} paused.")
        }
        ActionKind::Resume => {
            timetable.resume(entry).await?;
            format!("Schedule entry {entry} resumed.")
        }
        ActionKind::Trigger => format!("Task {} enqueued.", timetable.trigger(entry).await?),
        other => return Err(not_for(other, "a schedule entry", ActionTarget::Schedule)),
    };
    audit(&view, kind.as_str(), entry, &did);
    Ok(back(&view.links.page("schedules"), &did))
}
