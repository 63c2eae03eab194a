//! What an audit entry records.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{AuditEdit, words};
use crate::{
    broker::Counts,
    inspector::{Action, ActionKind, Actor},
    task::{Name, TaskId, TaskRef, TaskState, Timestamp, cut},
};

/// A change: who made it, when, and what it changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditEntry {
    /// The unique id.
    #[serde(skip, default = "no_name")]
    pub id: Name,
    /// When it was made, by the broker's clock.
    pub at: Timestamp,
    /// Who made it. `None` if the program did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Actor>,
    /// The name of an [`ActionKind`], or `again`, `put` or `deploy`. Later versions may add others.
    pub action: String,
    /// What was changed. For tasks, their queue.
    pub on: AuditTarget,
    /// The first tasks that were changed: at most [`AuditEntry::MAX_TASKS`]. Those of a [bulk action](Self::bulk) are
    /// not listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskId>,
    /// How many tasks were changed.
    #[serde(default)]
    pub done: u64,
    /// For how many tasks the action was refused.
    #[serde(default)]
    pub refused: u64,
    /// The reason that was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The queue that the tasks were moved to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Name>,
    /// The task that was enqueued by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enqueued: Option<TaskRef>,
    /// Which tasks of the queue a bulk action was applied to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bulk: Option<AuditBulk>,
    /// The payload before an edit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edit: Option<AuditEdit>,
    /// Further facts in words, such as the rule of a schedule entry or the version of a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
    /// Why the action ended early. Further tasks may have been changed then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a change was made to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "(String, Name)", into = "(String, Name)")]
#[non_exhaustive]
pub enum AuditTarget {
    /// A queue, or tasks in it.
    Queue(Name),
    /// A schedule entry.
    Schedule(Name),
    /// A server.
    Server(Name),
    /// An outbox, by its id.
    Outbox(Name),
    /// The program of the servers, by its version.
    Program(Name),
    /// A kind of a later version.
    Other(String, Name),
}

impl AuditTarget {
    /// The name of the kind, such as `queue`.
    pub fn kind(&self) -> &str {
        match self {
            Self::Queue(_) => "queue",
            Self::Schedule(_) => "schedule",
            Self::Server(_) => "server",
            Self::Outbox(_) => "outbox",
            Self::Program(_) => "program",
            Self::Other(kind, _) => kind,
        }
    }

    /// The name of the queue, schedule entry, server or outbox, or the version of the program.
    pub fn name(&self) -> &Name {
        match self {
            Self::Queue(name)
            | Self::Schedule(name)
            | Self::Server(name)
            | Self::Outbox(name)
            | Self::Program(name)
            | Self::Other(_, name) => name,
        }
    }

    /// The group that its entries are stored in.
    pub(super) fn group(&self) -> Name {
        match self {
            Self::Program(_) => PROGRAM,
            other => other.name().clone(),
        }
    }
}

/// The group of entries that are about all queues.
pub(super) const PROGRAM: Name = Name::from_static("");

impl From<(String, Name)> for AuditTarget {
    fn from((kind, name): (String, Name)) -> Self {
        match kind.as_str() {
            "queue" => Self::Queue(name),
            "schedule" => Self::Schedule(name),
            "server" => Self::Server(name),
            "outbox" => Self::Outbox(name),
            "program" => Self::Program(name),
            _ => Self::Other(kind, name),
        }
    }
}

impl From<AuditTarget> for (String, Name) {
    fn from(target: AuditTarget) -> Self {
        (target.kind().to_owned(), target.name().clone())
    }
}

/// Which tasks a bulk action was applied to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditBulk {
    /// The name of their state.
    pub state: String,
    /// The filter. Empty for all tasks in the state.
    pub filter: String,
    /// Whether it was applied to all of them. `false` while it is in progress, and if it was stopped, failed, or the
    /// program that applied it ended.
    #[serde(skip)]
    pub is_complete: bool,
}

impl AuditEntry {
    /// The number of tasks that an entry lists.
    pub const MAX_TASKS: usize = 20;

    /// The most bytes of the name and the address of an actor, a reason, a filter and an error.
    const MAX_TEXT: usize = 500;

    /// The action of a task that was [enqueued again](crate::inspector::Inspector::enqueue_again).
    pub const AGAIN: &str = "again";
    /// The action of a schedule entry that was added or replaced.
    pub const PUT: &str = "put";
    /// The action of a server that started with another version than before.
    pub const DEPLOY: &str = "deploy";

    /// A change without further facts. It gets its id, its time and its actor when it is recorded.
    pub(crate) fn new(action: impl fmt::Display, on: AuditTarget) -> Self {
        Self {
            id: no_name(),
            at: Timestamp::default(),
            by: None,
            action: action.to_string(),
            on,
            tasks: Vec::new(),
            done: 0,
            refused: 0,
            reason: None,
            destination: None,
            enqueued: None,
            bulk: None,
            edit: None,
            details: None,
            error: None,
        }
    }

    /// An action on tasks of a queue, with its reason and its destination.
    pub(crate) fn of_action(action: &Action, queue: Name) -> Self {
        let new = Self::new(action.kind(), AuditTarget::Queue(queue));
        match action {
            Action::Archive(reason) | Action::Cancel(reason) => new.because(reason),
            Action::MoveTo(queue) => Self {
                destination: Some(queue.clone()),
                ..new
            },
            _ => new,
        }
    }

    /// An empty reason counts as none.
    pub(crate) fn because(mut self, reason: &str) -> Self {
        let reason = reason.trim();
        self.reason = (!reason.is_empty()).then(|| reason.to_owned());
        self
    }

    pub(crate) fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = Some(details.into());
        self
    }

    pub(crate) fn enqueued(mut self, task: &TaskRef) -> Self {
        self.enqueued = Some(task.clone());
        self
    }

    pub(crate) fn changed(mut self, task: &TaskId) -> Self {
        if self.tasks.len() < Self::MAX_TASKS {
            self.tasks.push(task.clone());
        }
        self.done += 1;
        self
    }

    pub(crate) fn all_in(mut self, state: TaskState, filter: String) -> Self {
        self.bulk = Some(AuditBulk {
            state: state.as_str().to_owned(),
            filter,
            is_complete: false,
        });
        self
    }

    /// Cuts long texts, so that an entry is small.
    pub(super) fn bounded(mut self) -> Self {
        let actor = self.by.as_mut();
        let (name, from) = actor.map(|by| (&mut by.name, &mut by.from)).unzip();
        let filter = self.bulk.as_mut().map(|bulk| &mut bulk.filter);
        let texts = [
            name,
            from.and_then(Option::as_mut),
            filter,
            self.reason.as_mut(),
            self.details.as_mut(),
            self.error.as_mut(),
        ];
        for text in texts.into_iter().flatten() {
            cut(text, Self::MAX_TEXT);
        }
        self
    }

    /// The kind of the action. `None` for `again`, `put`, `deploy` and the actions of later versions.
    pub fn kind(&self) -> Option<ActionKind> {
        self.action.parse().ok()
    }

    /// Whether it changed this task, as far as it is [listed](Self::tasks), or enqueued it.
    pub fn concerns(&self, task: &TaskRef) -> bool {
        let is_in = |queue: &Name| *queue == task.queue;
        let was_in = matches!(&self.on, AuditTarget::Queue(queue) if is_in(queue));
        let moved = self.destination.as_ref().is_some_and(is_in);
        (was_in || moved) && self.tasks.contains(&task.id) || self.enqueued.as_ref() == Some(task)
    }

    /// The change in words, without who made it and when: `retried 3 tasks in queue mail`.
    pub fn describe(&self) -> String {
        words::describe(self)
    }

    /// Where the entries before this one start.
    pub fn cursor(&self) -> AuditCursor {
        AuditCursor {
            at: self.at,
            id: self.id.clone(),
        }
    }

    /// Adds the numbers that were counted after the entry was written.
    pub(super) fn add(&mut self, counts: &Counts) {
        self.done += counts.get(slot::DONE);
        self.refused += counts.get(slot::REFUSED);
        if let Some(bulk) = &mut self.bulk {
            bulk.is_complete = counts.get(slot::COMPLETE) > 0;
        }
    }
}

/// The slots of the counts of a bulk action.
pub(super) mod slot {
    pub(in super::super) const DONE: u8 = 0;
    pub(in super::super) const REFUSED: u8 = 1;
    pub(in super::super) const COMPLETE: u8 = 2;
}

fn no_name() -> Name {
    Name::from_static("")
}

/// A place between two entries, by time and id. Its text form is for URLs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuditCursor {
    pub(super) at: Timestamp,
    pub(super) id: Name,
}

impl fmt::Display for AuditCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.at.as_millis(), self.id)
    }
}

/// The error for a text that is not a place between two audit entries.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid audit cursor `{text}`: expected the one of the previous page")]
#[non_exhaustive]
pub struct InvalidAuditCursor {
    /// The invalid text.
    pub text: String,
}

crate::debug_as_text!(InvalidAuditCursor);

impl FromStr for AuditCursor {
    type Err = InvalidAuditCursor;

    fn from_str(text: &str) -> Result<Self, InvalidAuditCursor> {
        let parsed = text.split_once('.').and_then(|(at, id)| {
            Some(Self {
                at: Timestamp::from_millis(at.parse().ok()?),
                id: id.into(),
            })
        });
        parsed.ok_or_else(|| InvalidAuditCursor {
            text: text.to_owned(),
        })
    }
}
