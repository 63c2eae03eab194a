//! Changes shared by forms and the API. Each acts as the current user and is written to the audit log. The access guard
//! has already rejected users without permission.

use std::sync::Arc;

use asynqueue_core::{
    broker::OutboxAction,
    inspector::{
        Action, ActionKind, ActionOutcome, ActionTarget, AgainError, BulkProgress, Filter,
    },
    task::{Name, TaskRef, TaskState},
};
use futures_util::{StreamExt, stream};
use serde_json::Value;

use super::{
    jobs::{Job, JobSpec},
    links::encoded,
    request::{Failed, View},
    show,
};

/// The maximum number of selected tasks that one request may change.
pub(super) const MOST: usize = 1_000;

/// Writes the audit log: who did what. A broker that keeps no [audit](crate::web::reading::audit) logs each change itself.
pub(super) fn audit(view: &View, action: &str, on: &str, did: &str) {
    view.shared.live.record_change();
    if !view.inspector.capabilities().points {
        return;
    }
    log(view, action, on, did);
}

/// Writes the audit log about a job, which the broker knows nothing about.
pub(super) fn log(view: &View, action: &str, on: &str, did: &str) {
    tracing::info!(target: "asynqueue::audit", user = &*view.user.name, action, on, did, "monitor action");
}

/// The names of the applicable actions.
fn names(applies: impl Fn(ActionKind) -> bool) -> String {
    let kinds = ActionKind::ALL.iter().copied();
    let names = kinds.filter(|kind| applies(*kind)).map(ActionKind::as_str);
    names.collect::<Vec<_>>().join(", ")
}

/// The error for an action that does not apply to a target, such as `a queue`.
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

/// An action on tasks with its parameters: the reason, the new payload or the destination queue.
pub(super) fn action(
    kind: ActionKind,
    reason: &str,
    payload: Option<Value>,
    queue: Option<String>,
) -> Result<Action, Failed> {
    let missing = |field| Failed::BadRequest(format!("action `{kind}` requires `{field}`"));
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

/// Rejects an action that cannot change tasks of a queue in a state.
pub(super) fn check_applies(action: &Action, queue: &Name, state: TaskState) -> Result<(), Failed> {
    let applies = |kind: ActionKind| kind.applies_to(ActionTarget::Task(state));
    if !applies(action.kind()) {
        return Err(inapplicable(
            action.kind(),
            &format!("{state} tasks"),
            applies,
        ));
    }
    match action {
        Action::MoveTo(target) if target == queue => Err(Failed::BadRequest(format!(
            "the destination is `{queue}`, which the tasks are in: expected another queue"
        ))),
        _ => Ok(()),
    }
}

/// A job that changes all matching tasks.
pub(super) fn all_matching(
    view: &View,
    action: Action,
    queue: &Name,
    state: TaskState,
    filter: Filter,
) -> Result<JobSpec, Failed> {
    check_applies(&action, queue, state)?;
    let (doing, did) = words(action.kind());
    let text = filter.to_string();
    let mut what = format!("{doing} all {state} tasks in {queue}");
    if !text.is_empty() {
        what += &format!(" matching `{}`", show::cut(&text));
    }
    let list = view.links.state(queue, state);
    let inspector = &view.inspector;
    Ok(JobSpec {
        what,
        did,
        user: Arc::clone(&view.user.name),
        page: format!("{list}&filter={}", encoded(&text)),
        work: inspector.apply_to_all(action, queue.clone(), state, filter),
    })
}

/// Starts a job.
pub(super) fn start(view: &View, spec: JobSpec) -> Result<Arc<Job>, Failed> {
    let job = view.shared.jobs.start(spec, view.shared.live.on_change());
    let job = job.ok_or_else(|| {
        let why = "Too many jobs are in progress: wait until one ends, or stop one.";
        Failed::TooMany(why.into())
    })?;
    view.shared.live.record_change();
    log(view, "start", &format!("job {}", job.id), &job.text());
    Ok(job)
}

/// A job that deletes the selected tasks.
pub(super) fn deletion(view: &View, queue: &Name, tasks: Vec<TaskRef>, page: String) -> JobSpec {
    let (doing, did) = words(ActionKind::Delete);
    let what = match &tasks[..] {
        [task] => format!("{doing} {task}"),
        tasks => {
            let count = show::number(tasks.len() as u64);
            format!("{doing} {count} tasks in {queue}")
        }
    };
    let inspector = view.inspector.clone();
    let all = async move {
        let outcomes = inspector.apply(&Action::Delete, &tasks).await?;
        let scanned = outcomes.len() as u64;
        let done = done(&outcomes);
        Ok(BulkProgress::new(scanned, done, scanned - done))
    };
    JobSpec {
        what,
        did,
        user: Arc::clone(&view.user.name),
        page,
        work: stream::once(all).boxed(),
    }
}

/// Enqueues a copy of a task, with another payload if one is given.
pub(super) async fn enqueue_copy(
    view: &View,
    task: &TaskRef,
    payload: Option<&Value>,
) -> Result<TaskRef, Failed> {
    let again = match view.inspector.enqueue_again(task, payload).await {
        Err(missing @ AgainError::NotFound(_)) => {
            return Err(view.missing_task(task, missing.to_string()).await);
        }
        again => again?,
    };
    audit(view, "enqueue again", &task.to_string(), again.id.as_str());
    Ok(again)
}

/// Makes a server quiet, or lets it lease again.
pub(super) async fn set_quiet(view: &View, server: &Name, quiet: bool) -> Result<(), Failed> {
    let is_known = view.inspector.set_server_quiet(server, quiet).await?;
    let missing = || Failed::NotFound(format!("server `{server}` does not exist"));
    is_known.then_some(()).ok_or_else(missing)
}

/// Requests a change of failed entries.
pub(super) async fn change_outbox(
    view: &View,
    outbox: &Name,
    action: OutboxAction,
) -> Result<(), Failed> {
    let is_known = view.inspector.change_outbox(outbox, vec![action]).await?;
    let missing = || Failed::NotFound(format!("outbox `{outbox}` does not exist"));
    is_known.then_some(()).ok_or_else(missing)
}

/// The number of tasks that an action changed.
pub(super) fn done(outcomes: &[ActionOutcome]) -> u64 {
    let done = outcomes.iter().filter(|one| **one == ActionOutcome::Done);
    done.count() as u64
}

/// An action in words: the present participle for a description, the past participle for an outcome.
pub(super) fn words(kind: ActionKind) -> (&'static str, &'static str) {
    match kind {
        ActionKind::Retry => ("Retrying", "queued to run"),
        ActionKind::Run => ("Running", "queued to run"),
        ActionKind::Archive => ("Archiving", "archived"),
        ActionKind::Cancel => ("Cancelling", "cancelled or stopping"),
        ActionKind::Move => ("Moving", "moved"),
        ActionKind::Delete => ("Deleting", "deleted"),
        _ => ("Changing", "changed"),
    }
}
