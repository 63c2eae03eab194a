//! The kinds of all actions: their names, their labels, and what they apply to.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Action;
use crate::{suggest::closest, task::TaskState};

/// An action on tasks, queues, schedule entries or servers, without the values of an [`Action`].
///
/// Forms, the JSON API and the log use the name that [`as_str`](Self::as_str) returns.
///
/// ```
/// use asynqueue_core::{inspector::{ActionKind, ActionTarget}, task::TaskState};
///
/// let retry: ActionKind = "retry".parse()?;
/// assert!(retry.applies_to(ActionTarget::Task(TaskState::Archived)));
/// assert!(!retry.applies_to(ActionTarget::Queue));
/// # Ok::<(), asynqueue_core::inspector::UnknownAction>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ActionKind {
    /// Makes archived tasks pending with all their attempts again: [`Action::Retry`]. Sends failed entries of an outbox
    /// again.
    Retry,
    /// Makes waiting and archived tasks pending: [`Action::RunNow`].
    Run,
    /// Archives waiting tasks: [`Action::Archive`].
    Archive,
    /// Archives waiting tasks, and signals running ones to stop: [`Action::Cancel`].
    Cancel,
    /// Replaces the payload of waiting and archived tasks: [`Action::EditPayload`].
    Edit,
    /// Moves waiting and archived tasks to another queue: [`Action::MoveTo`].
    Move,
    /// Deletes tasks that are not active, a queue, or failed entries of an outbox: [`Action::Delete`] and
    /// [`Inspector::delete_queue`](super::Inspector::delete_queue).
    Delete,
    /// Stops leasing from a queue, or firing an entry, until it is resumed.
    Pause,
    /// Resumes a paused queue or entry, or a quiet server.
    Resume,
    /// Enqueues the task of an entry now.
    Trigger,
    /// Makes a server finish its tasks and lease no more, until it is resumed.
    Quiet,
}

/// What an action applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ActionTarget {
    /// Tasks in this state.
    Task(TaskState),
    /// A queue.
    Queue,
    /// A schedule entry.
    Schedule,
    /// A server.
    Server,
    /// Failed entries of an outbox.
    Outbox,
}

/// The error for an unknown action name.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown action `{name}`: expected {}", expected(.name))]
#[non_exhaustive]
pub struct UnknownAction {
    /// The unknown name.
    pub name: String,
}

crate::debug_as_text!(UnknownAction);

fn expected(name: &str) -> String {
    let names = ActionKind::ALL.iter().map(|kind| kind.as_str());
    match closest(name, names.clone()) {
        Some(meant) => format!("`{meant}`"),
        None => format!("one of {}", names.collect::<Vec<_>>().join(", ")),
    }
}

impl ActionKind {
    /// All actions, in the order in which they are offered.
    pub const ALL: &[Self] = &[
        Self::Retry,
        Self::Run,
        Self::Archive,
        Self::Cancel,
        Self::Edit,
        Self::Move,
        Self::Delete,
        Self::Pause,
        Self::Resume,
        Self::Trigger,
        Self::Quiet,
    ];

    /// The name in forms, JSON and logs: one word in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Run => "run",
            Self::Archive => "archive",
            Self::Cancel => "cancel",
            Self::Edit => "edit",
            Self::Move => "move",
            Self::Delete => "delete",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Trigger => "trigger",
            Self::Quiet => "quiet",
        }
    }

    /// The label of its button for a target.
    pub const fn label(self, target: ActionTarget) -> &'static str {
        match (self, target) {
            (Self::Retry, _) => "Retry",
            (Self::Run, ActionTarget::Task(TaskState::Archived)) => "Run once more",
            (Self::Run | Self::Trigger, _) => "Run now",
            (Self::Archive, _) => "Archive",
            (Self::Cancel, _) => "Cancel",
            (Self::Edit, _) => "Edit",
            (Self::Move, _) => "Move",
            (Self::Delete, _) => "Delete",
            (Self::Pause, _) => "Pause",
            (Self::Resume, _) => "Resume",
            (Self::Quiet, _) => "Stop leasing",
        }
    }

    /// Whether it can change this target. For tasks in other states, [`Inspector::apply`](super::Inspector::apply)
    /// refuses it or has no effect.
    pub const fn applies_to(self, target: ActionTarget) -> bool {
        use ActionTarget::{Outbox, Queue, Schedule, Server, Task};
        use TaskState::{Active, Archived, Pending};
        match (self, target) {
            (Self::Retry, Task(state)) => matches!(state, Archived),
            (Self::Run, Task(state)) => {
                (waits(state) && !matches!(state, Pending)) || matches!(state, Archived)
            }
            (Self::Archive, Task(state)) => waits(state),
            (Self::Cancel, Task(state)) => waits(state) || matches!(state, Active),
            (Self::Edit | Self::Move, Task(state)) => waits(state) || matches!(state, Archived),
            (Self::Delete, Task(state)) => !matches!(state, Active),
            (Self::Delete | Self::Pause | Self::Resume, Queue) => true,
            (Self::Pause | Self::Resume | Self::Trigger, Schedule) => true,
            (Self::Quiet | Self::Resume, Server) => true,
            (Self::Retry | Self::Delete, Outbox) => true,
            _ => false,
        }
    }

    /// Whether it applies to tasks, in any state.
    pub fn applies_to_tasks(self) -> bool {
        let states = TaskState::ALL.into_iter();
        states
            .map(ActionTarget::Task)
            .any(|task| self.applies_to(task))
    }

    /// Whether it destroys something permanently, so that it needs a confirmation.
    pub const fn destroys(self) -> bool {
        matches!(self, Self::Cancel | Self::Delete)
    }
}

/// Whether a task in this state has not started yet, and may still run without a request.
const fn waits(state: TaskState) -> bool {
    use TaskState::{Aggregating, Pending, Retry, Scheduled};
    matches!(state, Scheduled | Pending | Retry | Aggregating)
}

impl Action {
    /// The kind of this action.
    pub const fn kind(&self) -> ActionKind {
        match self {
            Self::RunNow => ActionKind::Run,
            Self::Retry => ActionKind::Retry,
            Self::Archive(_) => ActionKind::Archive,
            Self::Delete => ActionKind::Delete,
            Self::Cancel(_) => ActionKind::Cancel,
            Self::EditPayload(_) => ActionKind::Edit,
            Self::MoveTo(_) => ActionKind::Move,
        }
    }
}

impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ActionKind {
    type Err = UnknownAction;

    fn from_str(name: &str) -> Result<Self, UnknownAction> {
        let mut all = Self::ALL.iter();
        let found = all.find(|kind| kind.as_str() == name);
        found.copied().ok_or_else(|| UnknownAction {
            name: name.to_owned(),
        })
    }
}

impl Serialize for ActionKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ActionKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_action_has_a_unique_name_that_is_used_everywhere() {
        for kind in ActionKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(*kind));
            let json = serde_json::to_string(kind).expect("JSON");
            assert_eq!(json, format!("\"{kind}\""));
            assert_eq!(serde_json::from_str(&json).ok(), Some(*kind));
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let error = |name: &str| name.parse::<ActionKind>().expect_err("unknown").to_string();
        assert_eq!(error("Retry"), "unknown action `Retry`: expected `retry`");
        assert_eq!(
            error("explode"),
            "unknown action `explode`: expected one of retry, run, archive, cancel, edit, move, delete, pause, resume, trigger, quiet"
        );
        let json = serde_json::from_str::<ActionKind>("\"explode\"");
        assert!(json.expect_err("unknown").to_string().contains("`explode`"));
    }

    #[test]
    fn each_action_applies_to_something_and_has_a_unique_label() {
        let states = TaskState::ALL.into_iter().map(ActionTarget::Task);
        let targets = states.chain([
            ActionTarget::Queue,
            ActionTarget::Schedule,
            ActionTarget::Server,
            ActionTarget::Outbox,
        ]);
        for kind in ActionKind::ALL {
            let mut applies = targets.clone().filter(|target| kind.applies_to(*target));
            assert!(applies.next().is_some(), "{kind}");
        }
        for target in targets {
            let kinds = ActionKind::ALL.iter();
            let kinds = kinds.filter(|kind| kind.applies_to(target));
            let mut labels: Vec<_> = kinds.map(|kind| kind.label(target)).collect();
            let all = labels.len();
            labels.sort_unstable();
            labels.dedup();
            assert_eq!(labels.len(), all, "{target:?}: {labels:?}");
        }
    }
}
