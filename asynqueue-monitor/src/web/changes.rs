//! Changes that forms and the API ask for alike: each is made in the name of who asks, and noted. The guard has let only those
//! come here who may.

use std::sync::Arc;

use asynqueue_core::{
    inspector::{Action, ActionKind, ActionOutcome, BulkProgress, Filter},
    task::{Name, TaskRef, TaskState},
};
use futures_util::{StreamExt, stream};
use serde_json::Value;

use super::{
    jobs::{Job, Order},
    links::encoded,
    request::{Failed, View},
    show,
};

/// How many chosen tasks one request changes at most.
pub(super) const MOST: usize = 1_000;

/// Notes who did what.
pub(super) fn audit(view: &View, action: &str, on: &str, did: &str) {
    view.shared.live.has_changed();
    tracing::info!(target: "asynqueue::audit", user = &*view.user.name, action, on, did, "changed by the monitor");
}

/// The actions of a list of tasks, of a queue, an entry or a server.
fn names(applies: impl Fn(ActionKind) -> bool) -> String {
    let kinds = ActionKind::ALL.iter().copied();
    let names = kinds.filter(|kind| applies(*kind)).map(ActionKind::as_str);
    names.collect::<Vec<_>>().join(", ")
}

/// Why an action is not done to something, such as `a queue`.
pub(super) fn inapplicable(
    kind: ActionKind,
    to: &str,
    applies: impl Fn(ActionKind) -> bool,
) -> Failed {
    let expected = names(applies);
    Failed::BadRequest(format!(
        "action `{kind}` does not apply to {to}: expected one of {expected}"
    ))
}

/// An action on tasks with the values that it needs: a reason, a payload to edit, a queue to move to.
pub(super) fn action(
    kind: ActionKind,
    reason: &str,
    payload: Option<Value>,
    queue: Option<String>,
) -> Result<Action, Failed> {
    let missing = |field| Failed::BadRequest(format!("action `{kind}` needs `{field}`"));
    Ok(match kind {
        ActionKind::Retry => Action::Retry,
        ActionKind::Run => Action::RunNow,
        ActionKind::Archive => Action::Archive(reason.into()),
        ActionKind::Cancel => Action::Cancel(reason.into()),
        ActionKind::Edit => Action::EditPayload(payload.ok_or_else(|| missing("payload"))?),
        ActionKind::Move => {
            let queue = Name::from(queue.ok_or_else(|| missing("queue"))?);
            queue.check_queue()?;
            Action::MoveTo(queue)
        }
        ActionKind::Delete => Action::Delete,
        other => return Err(inapplicable(other, "tasks", ActionKind::applies_to_tasks)),
    })
}

/// A change of all tasks that match.
pub(super) fn all_that_match(
    view: &View,
    action: Action,
    queue: &Name,
    state: TaskState,
    filter: Filter,
) -> Order {
    let (doing, did) = words(action.kind());
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

/// The deletion of the tasks that are chosen.
pub(super) fn deletion(view: &View, queue: &Name, tasks: Vec<TaskRef>, page: String) -> Order {
    let (doing, did) = words(ActionKind::Delete);
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

/// Asks a server that is known to lease nothing more, or to lease again.
pub(super) async fn ask_server(view: &View, server: &Name, quiet: bool) -> Result<(), Failed> {
    let is_known = view.inspector.set_server_quiet(server, quiet).await?;
    let missing = || Failed::NotFound(format!("there is no server `{server}`"));
    is_known.then_some(()).ok_or_else(missing)
}

/// For how many tasks an action was done.
pub(super) fn done(outcomes: &[ActionOutcome]) -> u64 {
    let done = outcomes.iter().filter(|one| **one == ActionOutcome::Done);
    done.count() as u64
}

/// What is done to tasks, and what they are afterwards, in words.
pub(super) fn words(kind: ActionKind) -> (&'static str, &'static str) {
    match kind {
        ActionKind::Retry => ("Retrying", "to run"),
        ActionKind::Run => ("Running", "to run"),
        ActionKind::Archive => ("Archiving", "archived"),
        ActionKind::Cancel => ("Cancelling", "cancelled, or told to stop"),
        ActionKind::Move => ("Moving", "moved"),
        ActionKind::Delete => ("Deleting", "deleted"),
        _ => ("Changing", "changed"),
    }
}
