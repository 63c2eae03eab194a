//! The records of pauses: who paused a queue or a schedule entry, when and why.

use serde::{Deserialize, Serialize};

use crate::{
    inspector::Actor,
    task::{Name, Timestamp, cut},
};

/// What can be paused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Pausable {
    /// A queue.
    Queue(Name),
    /// A schedule entry.
    Schedule(Name),
}

impl Pausable {
    /// The name of the record in [`Space::Pauses`](super::Space::Pauses).
    pub(crate) fn document(&self) -> Name {
        match self {
            Self::Queue(name) => format!("queue\n{name}").into(),
            Self::Schedule(name) => format!("schedule\n{name}").into(),
        }
    }
}

/// Who paused a queue or a schedule entry, when and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pause {
    /// Who paused it. `None` if the program did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Actor>,
    /// When it was paused, by the broker's clock.
    pub since: Timestamp,
    /// Why it was paused. `None` if no reason was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Pause {
    const MAX_REASON: usize = 500;

    /// A pause since `since`, by nobody known and without a reason.
    pub fn new(since: Timestamp) -> Self {
        Self {
            by: None,
            since,
            reason: None,
        }
    }

    /// Sets who paused it.
    #[must_use]
    pub fn by(mut self, actor: Option<Actor>) -> Self {
        self.by = actor;
        self
    }

    /// Sets the reason, cut to 500 bytes. An empty one counts as none.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        let mut reason = reason.into().trim().to_owned();
        cut(&mut reason, Self::MAX_REASON);
        self.reason = Some(reason).filter(|reason| !reason.is_empty());
        self
    }
}
