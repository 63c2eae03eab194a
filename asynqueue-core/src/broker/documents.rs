//! Small records beside the tasks: what is known of servers, subscribers and schedules.

use bytes::Bytes;

use crate::task::{Name, Timestamp};

/// A kind of document. Names are unique within a space. One [`swap`](super::Store::swap) can change documents of all
/// spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Space {
    /// What each server reports about itself, by the server's name. Due when the server counts as gone.
    Servers,
    /// The requests to servers, by the server's name.
    Requests,
    /// The subscribers of each event, by the event.
    Subscriptions,
    /// Schedule entries, by name. Due at the next tick, unless paused.
    Schedules,
    /// The results of the last ticks of each schedule entry, by its name.
    ScheduleEvents,
    /// What was removed on request. Due when the removal can be forgotten.
    Removals,
    /// The marks of what programs declare.
    Marks,
    /// The progress of moves to and from other stores.
    Moves,
    /// What the relay of each outbox reports, by the outbox's id. Due when the report is forgotten.
    Outboxes,
    /// Who paused a queue or a schedule entry, when and why, by the kind and the name of what is paused.
    Pauses,
}

impl Space {
    /// All spaces.
    pub const ALL: [Self; 10] = [
        Self::Servers,
        Self::Requests,
        Self::Subscriptions,
        Self::Schedules,
        Self::ScheduleEvents,
        Self::Removals,
        Self::Marks,
        Self::Moves,
        Self::Outboxes,
        Self::Pauses,
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
            Self::Moves => "moves",
            Self::Outboxes => "outboxes",
            Self::Pauses => "pauses",
        }
    }
}

/// Distinguishes one state of a document or task from all earlier and later ones. A store counts changes or hashes the
/// content. With a hash, content that changes back has its old version again, which no caller can notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(pub u64);

/// A stored record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its content.
    pub bytes: Bytes,
    /// When it is [due](super::Store::due). `None`: never.
    pub due: Option<Timestamp>,
    /// Changes with the content and the due time.
    pub version: Version,
}

/// A change of one document. A set of changes names each document once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentSwap {
    /// The space of the document.
    pub space: Space,
    /// The document's name, unique in its space.
    pub name: Name,
    /// The condition for the change.
    pub expect: Expect,
    /// The change.
    pub put: Put,
}

/// The condition for a change of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No condition: any content, or absent.
    Any,
    /// The document does not exist.
    Absent,
    /// The document has this version.
    Version(Version),
}

/// The change of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// No change: the document is only returned.
    Keep,
    /// Sets the content and the due time.
    Set(Bytes, Option<Timestamp>),
    /// Deletes the document.
    Remove,
}

impl DocumentSwap {
    /// A change of the document `name` in `space`.
    pub fn new(space: Space, name: impl Into<Name>, expect: Expect, put: Put) -> Self {
        Self {
            space,
            name: name.into(),
            expect,
            put,
        }
    }
}

/// The result of a set of changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swapped {
    /// Whether the set was applied.
    pub is_done: bool,
    /// The documents of the set's [`Put::Keep`] changes, in that order, as of this step. Returned whether or not the
    /// set was applied.
    pub kept: Vec<Option<Document>>,
}

/// The result of [`Store::due`](super::Store::due).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueDocuments {
    /// The due documents with their names, earliest first.
    pub documents: Vec<(Name, Document)>,
    /// When the next one is due. In the past if `limit` left some behind.
    pub next_due: Option<Timestamp>,
    /// The time of the read, by the store's clock.
    pub now: Timestamp,
}
