//! The list of all actions that people ask for: how each is written, what it is called, and what it applies to.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Action;
use crate::{suggest::closest, task::TaskState};

/// What can be done with tasks, queues, schedule entries and servers, without the values that an [`Action`] has.
///
/// Forms, the JSON API and the log name an action as [`as_str`](Self::as_str) does.
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
    /// Archived tasks become pending with all their attempts before them: [`Action::Retry`].
    Retry,
    /// Waiting and archived tasks become pending: [`Action::RunNow`].
    Run,
    /// Waiting tasks are archived: [`Action::Archive`].
    Archive,
    /// Waiting tasks are archived, and running ones asked to stop: [`Action::Cancel`].
    Cancel,
    /// Waiting and archived tasks get another payload: [`Action::EditPayload`].
    Edit,
    /// Waiting and archived tasks go to another queue: [`Action::MoveTo`].
    Move,
    /// Tasks that are not active, or a queue, are deleted: [`Action::Delete`] and
    /// [`Inspector::delete_queue`](super::Inspector::delete_queue).
    Delete,
    /// Servers lease nothing more from a queue, or an entry misses its ticks, until it is resumed.
    Pause,
    /// A queue, an entry or a server that was paused or made quiet works again.
    Resume,
    /// The task of an entry is enqueued now.
    Trigger,
    /// A server finishes what runs and leases nothing more, until it is resumed.
    Quiet,
}

/// What an action is done to.
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
}

/// A name that no action has.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown action `{name}`: expected {}", expected(.name))]
#[non_exhaustive]
pub struct UnknownAction {
    /// The name.
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
    /// All of them, in the order in which they are offered.
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

    /// The words on its button, for a target that it applies to.
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

    /// Whether it can change such a target. Of tasks in other states, [`Inspector::apply`](super::Inspector::apply) refuses it or
    /// leaves them as they are.
    pub const fn applies_to(self, target: ActionTarget) -> bool {
        use ActionTarget::{Queue, Schedule, Server, Task};
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

    /// Whether it ends something that cannot be had again, so that it is worth a question.
    pub const fn destroys(self) -> bool {
        matches!(self, Self::Cancel | Self::Delete)
    }
}

/// Whether a task in this state has not begun, and may still run without being asked to.
const fn waits(state: TaskState) -> bool {
    use TaskState::{Aggregating, Pending, Retry, Scheduled};
    matches!(state, Scheduled | Pending | Retry | Aggregating)
}

impl Action {
    /// Which action it is.
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
    fn each_action_has_a_name_of_its_own_that_names_it_everywhere() {
        for kind in ActionKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(*kind));
            let json = serde_json::to_string(kind).expect("JSON");
            assert_eq!(json, format!("\"{kind}\""));
            assert_eq!(serde_json::from_str(&json).ok(), Some(*kind));
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_those_that_are_known() {
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
    fn each_action_applies_to_something_and_its_button_says_what_it_does() {
        let states = TaskState::ALL.into_iter().map(ActionTarget::Task);
        let targets = states.chain([
            ActionTarget::Queue,
            ActionTarget::Schedule,
            ActionTarget::Server,
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
