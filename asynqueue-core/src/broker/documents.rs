//! Small records beside the tasks: what is known of servers, subscribers and schedules.

use bytes::Bytes;

use crate::task::{Name, Timestamp};

/// A kind of document. Names are unique within a space, and all spaces share one step of [`swap`](super::Store::swap).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Space {
    /// What each server reports of itself, by the server's name. Due when the server counts as gone.
    Servers,
    /// What servers are asked for, by the server's name.
    Requests,
    /// The subscribers of each event, by the event.
    Subscriptions,
    /// Schedule entries, by name. Due at the next tick, unless paused.
    Schedules,
    /// The outcomes of the last ticks of each schedule entry, by its name.
    ScheduleEvents,
    /// What was removed on demand. Due when that is to be forgotten.
    Removals,
    /// The marks of what is declared.
    Marks,
}

impl Space {
    /// All spaces.
    pub const ALL: [Self; 7] = [
        Self::Servers,
        Self::Requests,
        Self::Subscriptions,
        Self::Schedules,
        Self::ScheduleEvents,
        Self::Removals,
        Self::Marks,
    ];

    /// The name that stores use, such as `schedule_events`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Servers => "servers",
            Self::Requests => "requests",
            Self::Subscriptions => "subscriptions",
            Self::Schedules => "schedules",
            Self::ScheduleEvents => "schedule_events",
            Self::Removals => "removals",
            Self::Marks => "marks",
        }
    }
}

/// Tells one state of a document or task from every other that it has or may come to have. A store counts changes, or takes a hash of the
/// content: what is again as it was has the same version then, and no caller can tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(pub u64);

/// A small record as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its content.
    pub bytes: Bytes,
    /// When it is [due](super::Store::due). `None`: never.
    pub due: Option<Timestamp>,
    /// Its version.
    pub version: Version,
}

/// One change of a document. A set of changes names each document once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentSwap {
    /// The space.
    pub space: Space,
    /// The document's name.
    pub name: Name,
    /// What it has to be before the change.
    pub expect: Expect,
    /// What to put in its place.
    pub put: Put,
}

/// What a document has to be for a change to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Anything, or absent.
    Any,
    /// Absent.
    Absent,
    /// As it was in this version.
    Version(Version),
}

/// What to put in the place of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// It stays, and is returned.
    Keep,
    /// It has this content, and is due then.
    Set(Bytes, Option<Timestamp>),
    /// It is gone.
    Remove,
}

impl DocumentSwap {
    /// A change of a document.
    pub fn new(space: Space, name: impl Into<Name>, expect: Expect, put: Put) -> Self {
        Self {
            space,
            name: name.into(),
            expect,
            put,
        }
    }
}

/// The answer to a set of changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swapped {
    /// Whether the set was made.
    pub is_done: bool,
    /// The documents of the set's [`Put::Keep`], in that order, as they were at that step, whether or not it was made.
    pub kept: Vec<Option<Document>>,
}

/// What [`Store::due`](super::Store::due) finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueDocuments {
    /// Those that are due, by name, earliest first.
    pub documents: Vec<(Name, Document)>,
    /// When the next after them is due. In the past, if `limit` left some behind.
    pub next_due: Option<Timestamp>,
    /// The time by the store's clock when it was asked.
    pub now: Timestamp,
}
