//! Changes, each a form that is answered by a redirect to where it was sent from. The guard has let only those come here who may.

use std::{collections::HashMap, sync::Arc};

use asynqueue_core::{
    inspector::{Action, ActionOutcome, BulkProgress, Filter},
    scheduler::Timetable,
    task::{Name, TaskId, TaskRef, TaskState},
};
use axum::{Form, extract::Path, response::Redirect};
use futures_util::{StreamExt, stream};
use serde_json::Value;

use super::{
    jobs::{Job, Order, told},
    links::encoded,
    pages::{Failed, View, state_of, task::version_of_payload},
    show,
};

/// How many chosen tasks one request changes at most.
pub(super) const MOST: usize = 1_000;

/// The fields of a form, some of which may be there more than once.
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

/// Back to a page, which says what was done.
fn back(page: &str, did: &str) -> Redirect {
    let sign = if page.contains('?') { '&' } else { '?' };
    Redirect::to(&format!("{page}{sign}did={}", encoded(did)))
}

fn unknown(action: &str) -> Failed {
    Failed::BadRequest(format!("`{action}` is nothing that can be done here"))
}

/// Notes who did what.
pub(super) fn audit(view: &View, action: &str, on: &str, did: &str) {
    view.shared.live.has_changed();
    tracing::info!(target: "asynqueue::audit", user = &*view.user.name, action, on, did, "changed by the monitor");
}

pub(super) async fn on_queue(
    view: View,
    Path(queue): Path<String>,
    Form(fields): Form<HashMap<String, String>>,
) -> Result<Redirect, Failed> {
    let queue = view.known_queue(queue).await?;
    let (inspector, page) = (&view.inspector, view.links.queue(&queue));
    let action = fields.get("do").map_or("", String::as_str);
    let (page, did) = match action {
        "pause" => {
            inspector.pause(std::slice::from_ref(&queue)).await?;
            (page, format!("{queue} is paused."))
        }
        "resume" => {
            inspector.resume(std::slice::from_ref(&queue)).await?;
            (page, format!("{queue} goes on."))
        }
        "delete" => match inspector.delete_queue(&queue, false).await? {
            true => (view.links.page(""), format!("{queue} is deleted.")),
            false => (page, format!("{queue} has tasks, and was not deleted.")),
        },
        "delete all" if fields.get("name").map(String::as_str) == Some(queue.as_str()) => {
            inspector.delete_queue(&queue, true).await?;
            (
                view.links.page(""),
                format!("{queue} is deleted with its tasks."),
            )
        }
        "delete all" => {
            let why = "was not deleted: what was typed is not its name";
            (page, format!("{queue} {why}."))
        }
        other => return Err(unknown(other)),
    };
    audit(&view, action, queue.as_str(), &did);
    Ok(back(&page, &did))
}

pub(super) async fn on_tasks(
    view: View,
    Path(queue): Path<String>,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Redirect, Failed> {
    let (queue, fields) = (Name::from(queue), Fields(fields));
    let state = state_of(fields.get("state"))?;
    let action = action_of(&fields)?;
    let (name, filter) = (fields.get("do"), fields.get("filter"));
    let list = view.links.state(&queue, state);
    let list = format!("{list}&filter={}", encoded(filter));
    if fields.get("which") == "all" {
        let matching: Filter = filter
            .parse()
            .map_err(|error| Failed::BadRequest(format!("{error}")))?;
        let order = all_that_match(&view, name, action, &queue, state, matching);
        return Ok(Redirect::to(&begin(&view, order)?.page));
    }
    let tasks = chosen(&queue, &fields)?;
    if tasks.is_empty() {
        return Ok(back(&list, "No task was chosen."));
    }
    if action == Action::Delete {
        let order = deletion(&view, &queue, tasks, list);
        return Ok(Redirect::to(&begin(&view, order)?.page));
    }
    if name.starts_with("edit") {
        check_unchanged(&view, &tasks, &fields).await?;
    }
    let (inspector, (_, did)) = (&view.inspector, words(name));
    let mut outcomes = inspector.apply(&action, &tasks).await?;
    if name == "edit and run" && done(&outcomes) == tasks.len() as u64 {
        outcomes = inspector.apply(&Action::RunNow, &tasks).await?;
    }
    let text = outcome(did, &outcomes);
    audit(&view, name, queue.as_str(), &text);
    Ok(match (fields.get("back"), tasks.first()) {
        ("task", Some(task)) => back(&view.links.task(task), &text),
        _ => back(&list, &text),
    })
}

/// Refuses to put a payload in the place of one that whoever edited it has not seen.
async fn check_unchanged(view: &View, tasks: &[TaskRef], fields: &Fields) -> Result<(), Failed> {
    for task in tasks {
        let Some(info) = view.inspector.task(task).await? else {
            continue;
        };
        let (seen, now) = (fields.get("seen"), version_of_payload(view, &info));
        if !seen.is_empty() && seen != now {
            let why = format!("The payload of {task} was changed meanwhile: look at it again.");
            return Err(Failed::BadRequest(why));
        }
    }
    Ok(())
}

/// Enqueues a task like another, with what is in the form as its payload.
pub(super) async fn on_task(
    view: View,
    Path((queue, id)): Path<(String, String)>,
    Form(fields): Form<HashMap<String, String>>,
) -> Result<Redirect, Failed> {
    let task = TaskRef::new(Name::from(queue), task_id(&id)?);
    let inspector = &view.inspector;
    let payload = payload_of(fields.get("payload").map_or("", String::as_str))?;
    let shown = inspector.task(&task).await?;
    // What is not edited need not be JSON that can be encoded.
    let is_edited = shown.is_none_or(|task| inspector.payload(&task) != payload);
    let payload = is_edited.then_some(&payload);
    let again = inspector.enqueue_again(&task, payload).await?;
    let did = format!("This is {task} once more.");
    audit(&view, "enqueue again", &task.to_string(), again.id.as_str());
    Ok(back(&view.links.task(&again), &did))
}

fn task_id(id: &str) -> Result<TaskId, Failed> {
    TaskId::new(id).map_err(|error| Failed::BadRequest(error.to_string()))
}

fn payload_of(text: &str) -> Result<Value, Failed> {
    serde_json::from_str(text)
        .map_err(|error| Failed::BadRequest(format!("the payload is not JSON: {error}")))
}

/// The deletion of the tasks that are chosen.
fn deletion(view: &View, queue: &Name, tasks: Vec<TaskRef>, page: String) -> Order {
    let (doing, did) = words("delete");
    let what = match &tasks[..] {
        [task] => format!("{doing} {task}"),
        tasks => format!("{doing} {} tasks of {queue}", tasks.len()),
    };
    let inspector = view.inspector.clone();
    let all = async move {
        let outcomes = inspector.apply(&Action::Delete, &tasks).await?;
        let scanned = outcomes.len() as u64;
        let done = done(&outcomes);
        Ok(BulkProgress::new(scanned, done, scanned - done))
    };
    Order {
        what,
        did,
        user: Arc::clone(&view.user.name),
        page,
        work: stream::once(all).boxed(),
    }
}

/// For how many tasks an action was done.
fn done(outcomes: &[ActionOutcome]) -> u64 {
    let done = outcomes.iter().filter(|one| **one == ActionOutcome::Done);
    done.count() as u64
}

/// A change of all tasks that match.
pub(super) fn all_that_match(
    view: &View,
    name: &str,
    action: Action,
    queue: &Name,
    state: TaskState,
    filter: Filter,
) -> Order {
    let (doing, did) = words(name);
    let text = filter.to_string();
    let mut what = format!("{doing} all {state} tasks of {queue}");
    if !text.is_empty() {
        what += &format!(" that match `{}`", show::cut(&text));
    }
    let list = view.links.state(queue, state);
    let inspector = &view.inspector;
    Order {
        what,
        did,
        user: Arc::clone(&view.user.name),
        page: format!("{list}&filter={}", encoded(&text)),
        work: inspector.apply_to_all(action, queue.clone(), state, filter),
    }
}

/// Lets a job begin.
pub(super) fn begin(view: &View, order: Order) -> Result<Arc<Job>, Failed> {
    let job = view.shared.jobs.start(order, view.shared.live.on_change());
    let job = job.ok_or_else(|| {
        let why = "Too many changes of many tasks go on: wait until some have ended, or stop them.";
        Failed::TooMany(why.into())
    })?;
    audit(view, "begin", &format!("job {}", job.id), &job.text());
    Ok(job)
}

/// The tasks whose boxes are ticked.
fn chosen(queue: &Name, fields: &Fields) -> Result<Vec<TaskRef>, Failed> {
    let count = fields.all("id").count();
    if count > MOST {
        let why = format!("{count} tasks were chosen: expected {MOST} at most");
        return Err(Failed::BadRequest(why));
    }
    let ids = fields.all("id").map(task_id);
    ids.map(|id| Ok(TaskRef::new(queue.clone(), id?))).collect()
}

/// What was done at once, in words.
fn outcome(did: &str, outcomes: &[ActionOutcome]) -> String {
    let done = done(outcomes);
    let reason = outcomes.iter().find_map(|outcome| match outcome {
        ActionOutcome::Done => None,
        ActionOutcome::NotFound => Some("it is not there any more"),
        ActionOutcome::Refused(reason) => Some(reason),
    });
    told(did, done, outcomes.len() as u64 - done, reason)
}

/// What one does, and what tasks are afterwards.
fn words(action: &str) -> (&'static str, &'static str) {
    match action {
        "run" => ("Running", "to run"),
        "retry" => ("Retrying", "to run"),
        "archive" => ("Archiving", "archived"),
        "delete" => ("Deleting", "deleted"),
        "cancel" => ("Cancelling", "cancelled, or told to stop"),
        "move" => ("Moving", "moved"),
        "edit and run" => ("Changing", "changed, to run"),
        _ => ("Changing", "changed"),
    }
}

fn action_of(fields: &Fields) -> Result<Action, Failed> {
    Ok(match fields.get("do") {
        "run" => Action::RunNow,
        "retry" => Action::Retry,
        "archive" => Action::Archive("in the monitor".into()),
        "delete" => Action::Delete,
        "cancel" => Action::Cancel("in the monitor".into()),
        "move" => {
            let queue = Name::from(fields.get("to").trim());
            let checked = queue.check_queue();
            checked.map_err(|error| Failed::BadRequest(error.to_string()))?;
            Action::MoveTo(queue)
        }
        "edit" | "edit and run" => Action::EditPayload(payload_of(fields.get("payload"))?),
        other => return Err(unknown(other)),
    })
}

pub(super) async fn on_job(view: View, Path(id): Path<u64>) -> Result<Redirect, Failed> {
    let gone = || Failed::NotFound("That job ended long ago.".into());
    let job = view.shared.jobs.get(id).ok_or_else(gone)?;
    job.stop();
    audit(&view, "stop", &format!("job {id}"), &job.text());
    Ok(Redirect::to(&job.page))
}

pub(super) async fn on_server(
    view: View,
    Form(fields): Form<HashMap<String, String>>,
) -> Result<Redirect, Failed> {
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    let server = Name::from(field("server").to_owned());
    let (quiet, will) = match field("do") {
        "quiet" => (true, "stops leasing"),
        "resume" => (false, "leases again"),
        other => return Err(unknown(other)),
    };
    ask_server(&view, &server, quiet).await?;
    let did = format!("{server} {will} within five seconds.");
    audit(&view, field("do"), &server, &did);
    let page = match field("after") {
        "" | "0" => view.links.page("servers"),
        after => view
            .links
            .page(&format!("servers?after={}", encoded(after))),
    };
    Ok(back(&page, &did))
}

/// Asks a server that is known to be quiet, or to resume.
pub(super) async fn ask_server(view: &View, server: &Name, quiet: bool) -> Result<(), Failed> {
    let is_known = view.inspector.set_server_quiet(server, quiet).await?;
    let missing = || Failed::NotFound(format!("there is no server `{server}`"));
    is_known.then_some(()).ok_or_else(missing)
}

pub(super) async fn on_schedule(
    view: View,
    Form(fields): Form<HashMap<String, String>>,
) -> Result<Redirect, Failed> {
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    let timetable = Timetable::new(view.inspector.broker().clone());
    let entry = field("entry");
    let did = match field("do") {
        "pause" => {
            timetable.pause(entry).await?;
            format!("{entry} is paused.")
        }
        "resume" => {
            timetable.resume(entry).await?;
            format!("{entry} goes on.")
        }
        "trigger" => format!("{} is enqueued.", timetable.trigger(entry).await?),
        other => return Err(unknown(other)),
    };
    audit(&view, field("do"), entry, &did);
    Ok(back(&view.links.page("schedules"), &did))
}
