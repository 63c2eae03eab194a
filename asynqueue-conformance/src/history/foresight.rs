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
    Promises,
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
    pended: HashMap<Version, Pended>,
    /// The former versions of tasks that were edited in their place.
    edited: HashMap<Version, Version>,
    places_at_once: bool,
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

/// When a task became pending.
#[derive(Clone, Copy)]
struct Pended {
    begin: u64,
    end: u64,
    call: usize,
    /// Before the others, not behind them.
    is_first: bool,
}

impl Pended {
    /// Whether the places of two tasks, each chosen at some moment of its call, may be in either order. A task that is
    /// pending once is leased once, so no other response can show that the order was the other one.
    fn is_beside(&self, other: &Self) -> bool {
        self.is_first == other.is_first
            && self.call != other.call
            && self.begin < other.end
            && other.begin < self.end
    }
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
    pub(super) fn of(promises: &Promises, steps: &[Step], spans: &[Span]) -> Self {
        let mut written: HashMap<Content, usize> = HashMap::new();
        for envelope in steps.iter().filter_map(writes) {
            *written.entry(Content::of(envelope)).or_default() += 1;
        }
        let is_unique = |version: &Version| written.get(&version.content) == Some(&1);
        let mut foresight = Self {
            shown: HashMap::new(),
            leased: HashMap::new(),
            pended: HashMap::new(),
            edited: HashMap::new(),
            places_at_once: promises.places_at_once,
            contents: HashSet::new(),
            tasks: HashMap::new(),
        };
        for (place, step) in steps.iter().enumerate() {
            foresight.note_place(step, &spans[place]);
            foresight.contents.extend(read_by(step).map(Content::of));
            if is_optional_lease(step, &spans[place]) {
                continue;
            }
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

    /// Notes when a step makes a task pending, or which version keeps its place.
    fn note_place(&mut self, step: &Step, span: &Span) {
        if let Some(envelope) = makes_pending(step) {
            let new = Pended {
                begin: span.begin,
                end: span.end.unwrap_or(u64::MAX),
                call: step.call,
                is_first: is_release(step),
            };
            let pended = self.pended.entry(Version::pending(envelope));
            let pended = pended.or_insert(new);
            pended.begin = pended.begin.min(new.begin);
            pended.end = pended.end.max(new.end);
        }
        if let Kind::Edit(edit, _) = &step.kind
            && let Change::Put { envelope, to: None } = &edit.change
        {
            let before = Version::pending(&edit.seen.envelope);
            self.edited.insert(Version::pending(envelope), before);
        }
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
            PassesOver::Since(begin) => {
                let pended = self.pended.get(&version);
                pended.is_some_and(|pended| pended.end > begin)
            }
            PassesOver::Any => true,
        }
    }

    /// Whether the store may have chosen the opposite order for two pending tasks of one priority.
    pub(super) fn may_be_swapped(&self, one: Version, other: Version) -> bool {
        let places = self.place_of(one).zip(self.place_of(other));
        !self.places_at_once && places.is_some_and(|(one, other)| one.is_beside(other))
    }

    fn place_of(&self, mut version: Version) -> Option<&Pended> {
        // An edit refers to a version that was seen before, so this ends.
        loop {
            if let Some(pended) = self.pended.get(&version) {
                return Some(pended);
            }
            version = *self.edited.get(&version)?;
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
        let are_swapped = |place: usize| self.may_be_swapped(version(place), version(new));
        let is_wrong = |place: usize| {
            leased(place).is_some_and(|other| {
                if place < new {
                    overtakes(new_one, (other, place))
                } else {
                    overtakes(other, (new_one, new))
                }
            })
        };
        !(0..pending.len()).any(|place| place != new && is_wrong(place) && !are_swapped(place))
    }
}

/// The task that a step makes pending.
fn makes_pending(step: &Step) -> Option<&Envelope> {
    match &step.kind {
        Kind::Settle(settle) if is_release(step) => Some(&settle.settlement.envelope),
        _ => pended(step),
    }
}

fn is_release(step: &Step) -> bool {
    matches!(&step.kind, Kind::Settle(step) if matches!(step.settlement.outcome, Outcome::Release))
}

/// Whether a step leases known tasks or never happens: its response is hidden, so it shows nothing.
fn is_optional_lease(step: &Step, span: &Span) -> bool {
    matches!(step.kind, Kind::Lease(_)) && span.end.is_none()
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
