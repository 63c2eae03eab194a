//! Changes, each a form that is answered by a redirect to where it was sent from. The guard has let only those come here who may.

use std::collections::HashMap;

use asynqueue_core::{
    Name, TaskId, TaskRef,
    inspector::{Action, ActionOutcome, BulkProgress, Filter},
    scheduler::Timetable,
};
use axum::{Form, extract::Path, response::Redirect};
use futures_util::TryStreamExt;

use super::{
    links::encoded,
    pages::{Failed, View, state_of},
    show,
};

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
fn audit(view: &View, action: &str, on: &str, did: &str) {
    tracing::info!(target: "asynqueue::audit", user = &*view.user.name, action, on, did, "changed by the monitor");
}

pub(super) async fn on_queue(
    view: View,
    Path(queue): Path<String>,
    Form(fields): Form<HashMap<String, String>>,
) -> Result<Redirect, Failed> {
    let queue = Name::from(queue);
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
    let filter = fields.get("filter");
    let did = if fields.get("which") == "all" {
        let filter: Filter = filter
            .parse()
            .map_err(|error| Failed::BadRequest(format!("{error}")))?;
        let bulk = view
            .inspector
            .apply_to_all(action, queue.clone(), state, filter);
        // By itself, for a browser that goes away leaves it half done otherwise.
        let all = tokio::spawn(bulk.try_fold(BulkProgress::default(), async |_, now| Ok(now)));
        let ended = all
            .await
            .map_err(|error| Failed::BadRequest(error.to_string()))??;
        told(fields.get("do"), ended.done, ended.refused, None)
    } else {
        let ids = fields
            .all("id")
            .map(TaskId::new)
            .collect::<Result<Vec<_>, _>>();
        let ids = ids.map_err(|error| Failed::BadRequest(error.to_string()))?;
        let tasks: Vec<_> = ids
            .into_iter()
            .map(|id| TaskRef::new(queue.clone(), id))
            .collect();
        let outcomes = view.inspector.apply(&action, &tasks).await?;
        let done = outcomes
            .iter()
            .filter(|outcome| **outcome == ActionOutcome::Done)
            .count();
        let reason = outcomes.iter().find_map(|outcome| match outcome {
            ActionOutcome::Done => None,
            ActionOutcome::NotFound => Some("it is not there any more"),
            ActionOutcome::Refused(reason) => Some(reason),
        });
        told(
            fields.get("do"),
            done as u64,
            (outcomes.len() - done) as u64,
            reason,
        )
    };
    audit(&view, fields.get("do"), queue.as_str(), &did);
    let page = match (fields.get("back"), fields.all("id").next().map(TaskId::new)) {
        ("task", Some(Ok(id))) if fields.get("do") != "delete" => {
            view.links.task(&TaskRef::new(queue, id))
        }
        _ => format!(
            "{}&filter={}",
            view.links.state(&queue, state),
            encoded(filter)
        ),
    };
    Ok(back(&page, &did))
}

fn action_of(fields: &Fields) -> Result<Action, Failed> {
    Ok(match fields.get("do") {
        "run" => Action::RunNow,
        "retry" => Action::Retry,
        "archive" => Action::Archive("in the monitor".into()),
        "delete" => Action::Delete,
        "cancel" => Action::Cancel("in the monitor".into()),
        "edit" => {
            let payload = serde_json::from_str(fields.get("payload"));
            Action::EditPayload(
                payload.map_err(|error| {
                    Failed::BadRequest(format!("the payload is not JSON: {error}"))
                })?,
            )
        }
        other => return Err(unknown(other)),
    })
}

/// What an action has come to, in words.
fn told(action: &str, done: u64, refused: u64, reason: Option<&str>) -> String {
    let did = match action {
        "run" | "retry" => "to run",
        "archive" => "archived",
        "delete" => "deleted",
        "cancel" => "cancelled, or told to stop",
        _ => "changed",
    };
    let tasks = |count| match count {
        1 => "1 task".to_owned(),
        count => format!("{} tasks", show::number(count)),
    };
    match (refused, reason) {
        (0, _) => format!("{} {did}.", tasks(done)),
        (_, None) => format!(
            "{} {did}, {} left as they were.",
            tasks(done),
            tasks(refused)
        ),
        (_, Some(reason)) => format!("{} {did}, {} not: {reason}.", tasks(done), tasks(refused)),
    }
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
