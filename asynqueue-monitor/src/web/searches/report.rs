//! What a search has found, and why it ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use asynqueue_core::task::{Name, TaskRef, TaskState, Timestamp};

use crate::web::show;

/// What a search has found so far.
#[derive(Clone, Debug, Default)]
pub(in crate::web) struct Report {
    pub(in crate::web) scanned: u64,
    pub(in crate::web) total: u64,
    /// How many tasks match, including those that are not kept.
    pub(in crate::web) found: u64,
    /// The first results.
    pub(in crate::web) kept: Vec<Found>,
    /// How many tasks match, by queue and state.
    pub(in crate::web) lists: BTreeMap<(Name, &'static str), u64>,
    pub(in crate::web) end: Option<End>,
    pub(in crate::web) ended: Option<Instant>,
    /// The tasks in `kept`, while the search runs.
    pub(super) known: BTreeSet<TaskRef>,
}

/// A task that matches.
#[derive(Clone, Debug)]
pub(in crate::web) struct Found {
    pub(in crate::web) task: TaskRef,
    pub(in crate::web) event: String,
    pub(in crate::web) state: TaskState,
    pub(in crate::web) enqueued_at: Timestamp,
    /// The text around the match.
    pub(in crate::web) excerpt: String,
}

/// Why a search ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::web) enum End {
    Done,
    /// The text is the id of these tasks, so that nothing was scanned.
    ExactId,
    Stopped,
    Unseen,
    Failed(String),
}

impl Report {
    /// The progress in words.
    pub(in crate::web) fn text(&self) -> String {
        let (scanned, total) = (show::number(self.scanned), show::number(self.total));
        let found = show::number(self.found);
        match &self.end {
            None => format!("{scanned} of {total} tasks searched, {found} found."),
            Some(End::Done) => format!("All {scanned} tasks searched, {found} found."),
            Some(End::ExactId) => "Tasks with this ID.".to_owned(),
            Some(End::Stopped) => {
                format!("Stopped. {scanned} of {total} tasks searched, {found} found.")
            }
            Some(End::Unseen) => {
                format!(
                    "Stopped without a viewer. {scanned} of {total} tasks searched, {found} found."
                )
            }
            Some(End::Failed(why)) => {
                format!("Failed: {why}. {scanned} of {total} tasks searched, {found} found.")
            }
        }
    }
}
