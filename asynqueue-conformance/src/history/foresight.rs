//! What the rest of a history implies for a step: it must not remove what a later response shows.
//!
//! The search is correct without it, but much too slow: a wrong guess, for example about the order of concurrently
//! enqueued tasks or the effect of a lost request, would show only many steps later.
//!
//! It considers only tasks whose content was written once, so that a version that ends never returns. If clients mark
//! what they write, these are all tasks.

use std::collections::{HashMap, HashSet};

use asynqueue_core::{
    broker::{Change, Edited, Outcome, Settled},
    task::{Envelope, TaskId, TaskState},
};

use super::{
    search::{Span, Taken},
    steps::{Kind, LeaseStep, PassesOver, SettleStep, Step, pended},
    version::{Content, Version},
};
use crate::property::model::Entry;

/// What later responses show.
pub(super) struct Foresight {
    /// The steps whose responses show that a task had this version when they were taken.
    shown: HashMap<Version, Vec<usize>>,
    leased: HashMap<Version, Leased>,
    /// By when a task became pending.
    pended: HashMap<Version, u64>,
    /// The contents that appear in responses or requests.
    contents: HashSet<Content>,
    /// The steps whose responses show the content of a task, or its absence.
    tasks: HashMap<TaskId, Vec<usize>>,
}

/// Where a pending task is leased.
struct Leased {
    step: usize,
    place: usize,
    begin: u64,
    end: u64,
    client: usize,
    is_again: bool,
    passes_over: PassesOver,
}

impl Leased {
    /// Whether this is certainly leased before another, each by the step that returned it.
    fn is_before(&self, other: &Self) -> bool {
        if self.is_again || other.is_again {
            return false;
        }
        if self.step == other.step {
            return self.place < other.place;
        }
        self.end < other.begin
    }
}

impl Foresight {
    pub(super) fn of(steps: &[Step], spans: &[Span]) -> Self {
        let mut written: HashMap<Content, usize> = HashMap::new();
        for envelope in steps.iter().filter_map(writes) {
            *written.entry(Content::of(envelope)).or_default() += 1;
        }
        let is_unique = |version: &Version| written.get(&version.content) == Some(&1);
        let mut foresight = Self {
            shown: HashMap::new(),
            leased: HashMap::new(),
            pended: HashMap::new(),
            contents: HashSet::new(),
            tasks: HashMap::new(),
        };
        for (place, step) in steps.iter().enumerate() {
            if let Some(envelope) = makes_pending(step) {
                let end = spans[place].end.unwrap_or(u64::MAX);
                let latest = foresight.pended.entry(Version::pending(envelope));
                let latest = latest.or_default();
                *latest = end.max(*latest);
            }
            foresight.contents.extend(read_by(step).map(Content::of));
            for (task, version) in shows(step) {
                foresight.tasks.entry(task).or_default().push(place);
                foresight
                    .contents
                    .extend(version.map(|version| version.content));
                if let Some(version) = version.filter(is_unique) {
                    foresight.shown.entry(version).or_default().push(place);
                }
            }
            if let (Kind::Lease(lease), Some(end)) = (&step.kind, spans[place].end) {
                let span = (spans[place].begin, end);
                foresight.add(place, step.client.number, lease, span, is_unique);
            }
        }
        foresight
    }

    fn add(
        &mut self,
        step: usize,
        client: usize,
        lease: &LeaseStep,
        (begin, end): (u64, u64),
        is_unique: impl Fn(&Version) -> bool,
    ) {
        let is_again = lease.is_again();
        for (place, task) in lease.tasks.iter().enumerate() {
            let version = Version::pending(&task.envelope);
            let leased = Leased {
                step,
                place,
                begin,
                end,
                client,
                is_again,
                passes_over: lease.passes_over,
            };
            if is_unique(&version) {
                self.leased.insert(version, leased);
            }
        }
    }

    /// Whether a step can end a version: all other steps that show it were taken.
    pub(super) fn may_end(&self, version: Version, step: usize, taken: &Taken) -> bool {
        let shown = self.shown.get(&version).map_or(&[][..], Vec::as_slice);
        shown
            .iter()
            .all(|other| *other == step || taken.has(*other))
    }

    /// Whether a request of this client can have leased a pending task without a response: no other client receives it.
    pub(super) fn may_be_lost(&self, version: Version, client: usize) -> bool {
        let leased = self.leased.get(&version);
        leased.is_none_or(|leased| leased.is_again && leased.client == client)
    }

    /// Whether a step can have left a task like this. A task that no response shows cannot be changed by anyone, so no
    /// later response shows it differently.
    pub(super) fn may_be_left(&self, task: &Envelope, step: usize, taken: &Taken) -> bool {
        if self.contents.contains(&Content::of(task)) {
            return true;
        }
        let shown = self.tasks.get(&task.id).map_or(&[][..], Vec::as_slice);
        shown
            .iter()
            .all(|other| *other == step || taken.has(*other))
    }

    /// Whether a lease may leave out a pending task, or take it after later ones.
    pub(super) fn may_be_passed_over(&self, passes_over: PassesOver, version: Version) -> bool {
        match passes_over {
            PassesOver::None => false,
            PassesOver::Since(begin) => self.pended.get(&version).is_some_and(|end| *end > begin),
            PassesOver::Any => true,
        }
    }

    /// Whether pending tasks of one priority can be in this order, after the one at `new` took its place.
    pub(super) fn may_be_in_order(&self, pending: &[&Entry], new: usize) -> bool {
        let version = |place: usize| Version::pending(&pending[place].envelope);
        let leased = |place: usize| self.leased.get(&version(place));
        let Some(new_one) = leased(new) else {
            return true;
        };
        // Leased before the one ahead of it, which it may not pass over.
        let overtakes = |later: &Leased, (ahead, place): (&Leased, usize)| {
            later.is_before(ahead) && !self.may_be_passed_over(later.passes_over, version(place))
        };
        let is_wrong = |place: usize| {
            leased(place).is_some_and(|other| {
                if place < new {
                    overtakes(new_one, (other, place))
                } else {
                    overtakes(other, (new_one, new))
                }
            })
        };
        !(0..pending.len()).any(|place| place != new && is_wrong(place))
    }
}

/// The task that a step makes pending.
fn makes_pending(step: &Step) -> Option<&Envelope> {
    match &step.kind {
        Kind::Settle(step) if matches!(step.settlement.outcome, Outcome::Release) => {
            Some(&step.settlement.envelope)
        }
        _ => pended(step),
    }
}

/// What a step writes into a task. A repeated step writes the same.
fn writes(step: &Step) -> Option<&Envelope> {
    match &step.kind {
        Kind::Enqueue(task, _) => Some(&task.envelope),
        Kind::Settle(step) if step.repeats.is_empty() => Some(&step.settlement.envelope),
        Kind::Edit(edit, _) => match &edit.change {
            Change::Put { envelope, .. } => Some(envelope),
            Change::Delete | Change::Cancel { .. } => None,
        },
        _ => None,
    }
}

/// The envelope that a client has read of a task that it changes.
fn read_by(step: &Step) -> Option<&Envelope> {
    match &step.kind {
        Kind::Settle(step) => Some(&step.settlement.leased),
        Kind::Edit(edit, _) => Some(&edit.seen.envelope),
        _ => None,
    }
}

/// The tasks that the response to a step shows, each with its version when the step was taken, if there was one.
fn shows(step: &Step) -> Vec<(TaskId, Option<Version>)> {
    let shown =
        |envelope: &Envelope, state| (envelope.id.clone(), Some(Version::of(state, envelope)));
    match &step.kind {
        Kind::Enqueue(task, Some(Ok(()))) => vec![(task.envelope.id.clone(), None)],
        Kind::Lease(lease) => {
            // The tasks of a lost response were pending before this step, and are active.
            let state = if lease.is_again() {
                TaskState::Other
            } else {
                TaskState::Pending
            };
            let tasks = lease.tasks.iter();
            tasks.map(|task| shown(&task.envelope, state)).collect()
        }
        Kind::Look(task, None) => vec![(task.id.clone(), None)],
        Kind::Look(_, Some(found)) => vec![shown(&found.envelope, found.state)],
        Kind::Edit(edit, Some(Edited::Done | Edited::Locked | Edited::Refused)) => {
            vec![shown(&edit.seen.envelope, edit.seen.state)]
        }
        // A repeated step may have the response of the first.
        Kind::Settle(SettleStep {
            settlement,
            answer: Some(Settled::Recorded | Settled::Cancelled),
            repeats,
            ..
        }) if repeats.is_empty() => vec![shown(&settlement.leased, TaskState::Active)],
        _ => Vec::new(),
    }
}
