//! What a store must do, one step after the other: the model of the property tests, and what calls of unknown outcome
//! left in it.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use asynqueue_core::{
    broker::{Change, Edited, Extended, Lease, LeaseToken, Settled},
    task::{Name, TaskRef, TaskState, Timestamp},
};

use super::{
    Promises,
    foresight::Foresight,
    search::{Span, Specification, Taken},
    steps::{Kind, LeaseStep, Limit, PassesOver, SettleStep, Step, lost_step, lost_token},
    version::Version,
};
use crate::property::model::{Entry, Model};

/// The time of all steps. Leases of zero have expired then, and those of an hour have not.
pub(super) const NOW: Timestamp = Timestamp::from_millis(1_000_000_000_000);

/// The steps of one queue, as a specification.
pub(super) struct Spec<'a> {
    queue: &'a Name,
    steps: &'a [Step],
    foresight: Foresight,
    places_at_once: bool,
}

impl<'a> Spec<'a> {
    pub(super) fn new(
        queue: &'a Name,
        promises: &Promises,
        steps: &'a [Step],
        spans: &[Span],
    ) -> Self {
        Self {
            queue,
            steps,
            foresight: Foresight::of(promises, steps, spans),
            places_at_once: promises.places_at_once,
        }
    }
}

/// The state of a queue.
#[derive(Clone)]
pub(super) struct State {
    model: Model,
    /// How many tasks the steps of unknown outcome can still have taken.
    left: BTreeMap<usize, usize>,
    /// The responses of such steps that are repeated, if a later response could differ.
    remembered: BTreeMap<usize, &'static str>,
}

impl Specification for Spec<'_> {
    type State = State;

    fn start(&self) -> State {
        State {
            model: Model::new(NOW),
            left: BTreeMap::new(),
            remembered: BTreeMap::new(),
        }
    }

    fn apply(&self, state: &State, step: usize, taken: &Taken) -> Vec<State> {
        match &self.steps[step].kind {
            Kind::Enqueue(task, answer) => {
                let state = after(state, answer.as_ref(), |model| model.enqueue_one(task));
                self.plausible(state, &task.envelope.task_ref(), step, taken)
            }
            Kind::Lease(lease) => self.lease(state, step, lease, taken),
            Kind::LoseLease {
                limit,
                lease,
                is_whole,
            } => self.lose_lease(state, step, (*limit, *lease, *is_whole), taken),
            Kind::FindNone if state.model.next(self.queue, 1).is_empty() => vec![state.clone()],
            Kind::FindNone => Vec::new(),
            Kind::Extend(lease, by, answer) => {
                let mut states = extend(state, lease, *by, *answer);
                if self.steps[step].is_contested {
                    states.extend(extend_in_passing(state, lease, *answer));
                }
                states
            }
            Kind::Settle(settle) => {
                let mut states = self.settle(state, step, settle, taken);
                // Another call holds the lease, so it was left.
                if self.steps[step].is_contested && settle.answer == Some(Settled::Stale) {
                    states.push(state.clone());
                }
                states
            }
            Kind::Edit(edit, answer) => {
                let mut done = Edited::Changed;
                let new = after(state, answer.as_ref(), |model| {
                    done = model.edit(edit);
                    done
                });
                let is_change = !matches!(edit.change, Change::Cancel { .. });
                let seen = Version::of(edit.seen.state, &edit.seen.envelope);
                let ends = done == Edited::Done && is_change;
                if ends && !self.foresight.may_end(seen, step, taken) {
                    return Vec::new();
                }
                self.plausible(new, &edit.task_ref(), step, taken)
            }
            Kind::Look(task, found) => {
                let entry = state.model.task(task).map(Entry::info);
                let is_same = match (&entry, found) {
                    (Some(entry), Some(found)) => {
                        (entry.state, &entry.envelope, &entry.result)
                            == (found.state, &found.envelope, &found.result)
                    }
                    (entry, found) => entry.is_none() && found.is_none(),
                };
                is_same.then(|| state.clone()).into_iter().collect()
            }
        }
    }

    fn digest(&self, state: &State) -> u64 {
        let mut hasher = DefaultHasher::new();
        state.model.digest().hash(&mut hasher);
        (&state.left, &state.remembered).hash(&mut hasher);
        hasher.finish()
    }
}

/// The state after a change, if its response is the recorded one, or unknown.
fn after<T: PartialEq>(
    state: &State,
    answer: Option<&T>,
    change: impl FnOnce(&mut Model) -> T,
) -> Option<State> {
    let mut state = state.clone();
    let given = change(&mut state.model);
    answer
        .is_none_or(|answer| *answer == given)
        .then_some(state)
}

fn extend(state: &State, lease: &Lease, by: Duration, answer: Option<Extended>) -> Vec<State> {
    let extend = |model: &mut Model| model.extend(&lease.task, lease.token, by);
    after(state, answer.as_ref(), extend).into_iter().collect()
}

/// The state after an extension that has left the lease to another call, which holds it. One that has ended counts as
/// lost, because the other may be ending it.
fn extend_in_passing(state: &State, lease: &Lease, answer: Option<Extended>) -> Option<State> {
    after(state, answer.as_ref(), |model| {
        if model.has_expired(&lease.task) {
            return Extended::Lost;
        }
        let (task, token) = (&lease.task, lease.token);
        model.clone().extend(task, token, Duration::ZERO)
    })
}

fn name(settled: Settled) -> &'static str {
    match settled {
        Settled::Recorded => "recorded",
        Settled::Cancelled => "cancelled",
        Settled::Completed => "completed",
        Settled::NotCommitted => "not committed",
        Settled::Stale => "stale",
    }
}

impl Spec<'_> {
    /// The state, unless later responses show that a task that was just changed is different, or in another place among
    /// the pending ones.
    fn plausible(
        &self,
        state: Option<State>,
        task: &TaskRef,
        step: usize,
        taken: &Taken,
    ) -> Vec<State> {
        let is_plausible = |state: &State| {
            let Some(entry) = state.model.task(task) else {
                return true;
            };
            let may_be_left = self.foresight.may_be_left(&entry.envelope, step, taken);
            may_be_left && self.may_be_in_place(state, entry)
        };
        state.filter(is_plausible).into_iter().collect()
    }

    fn may_be_in_place(&self, state: &State, entry: &Entry) -> bool {
        if entry.state() != TaskState::Pending {
            return true;
        }
        let priority = entry.envelope.options.priority;
        let is_like = |entry: &&Entry| entry.envelope.options.priority == priority;
        let pending = state.model.next(self.queue, usize::MAX);
        let pending: Vec<_> = pending.iter().filter(is_like).collect();
        let mut places = pending.iter();
        let place = places.position(|other| other.envelope.id == entry.envelope.id);
        place.is_none_or(|place| self.foresight.may_be_in_order(&pending, place))
    }

    /// A settlement that repeats one of unknown outcome may have its response.
    fn settle(&self, state: &State, step: usize, settle: &SettleStep, taken: &Taken) -> Vec<State> {
        let settlement = &settle.settlement;
        let mut new = state.clone();
        let given = new.model.settle(settlement);
        if settle.answer.is_none_or(|answer| answer == given) {
            let version = Version::of(TaskState::Active, &settlement.leased);
            if given != Settled::Stale && !self.foresight.may_end(version, step, taken) {
                return Vec::new();
            }
            // A stale outcome stays stale, unless it waits for the lease to end.
            let may_change = given != Settled::Stale || settlement.only_if_expired;
            if settle.is_repeated && may_change {
                // Under the first of equal ones: it makes no difference which one it was.
                let first = settle.repeats.first().copied().unwrap_or(step);
                new.remembered.insert(first, name(given));
            }
            let task = settlement.envelope.task_ref();
            return self.plausible(Some(new), &task, step, taken);
        }
        let was_answered = |before: &usize| {
            let remembered = state.remembered.get(before).copied();
            remembered.is_some() && remembered == settle.answer.map(name)
        };
        let is_again = settle.repeats.iter().any(was_answered);
        is_again.then(|| state.clone()).into_iter().collect()
    }

    /// The states after a lease request without a response: it took any number of tasks.
    fn lose_lease(
        &self,
        state: &State,
        step: usize,
        (limit, lease, is_whole): (Limit, Duration, bool),
        taken: &Taken,
    ) -> Vec<State> {
        let limit = match limit {
            Limit::Of(limit) => limit,
            Limit::LeftBy(first) => state.left.get(&first).copied().unwrap_or(0),
        };
        let client = self.steps[step].client.number;
        let next = state.model.next(self.queue, limit);
        let may_be_lost = |entry: &&Entry| {
            let version = Version::pending(&entry.envelope);
            self.foresight.may_be_lost(version, client)
                && self.foresight.may_end(version, step, taken)
        };
        let most = next.iter().take_while(may_be_lost).count();
        let least = if is_whole { next.len() } else { 1 };
        let lost = |count: usize| {
            let mut state = state.clone();
            for entry in &next[..count] {
                state.model.activate(entry, lost_token(step), lease);
            }
            if !is_whole && count < limit {
                state.left.insert(step, limit - count);
            }
            state
        };
        (least.max(1)..=most).map(lost).collect()
    }

    /// A lease takes the next tasks, or returns the tasks of an earlier lease of this worker whose response was lost.
    fn lease(&self, state: &State, step: usize, lease: &LeaseStep, taken: &Taken) -> Vec<State> {
        let mut states: Vec<_> = self.take(state, step, lease, taken).into_iter().collect();
        if lease.is_again() {
            states.extend(self.take_lost(state, step, lease));
        }
        states
    }

    fn take(&self, state: &State, step: usize, lease: &LeaseStep, taken: &Taken) -> Option<State> {
        let count = lease.tasks.len();
        if count > lease.limit {
            return None;
        }
        if !matches!(lease.passes_over, PassesOver::None) || !self.places_at_once {
            return self.take_some(state, step, lease, taken);
        }
        let next = state.model.next(self.queue, count + 1);
        if next.len() < count || (lease.is_all && next.len() > count) {
            return None;
        }
        let next = &next[..count];
        if !is_same(next.iter(), lease) {
            return None;
        }
        self.activate(state, step, lease, next, taken)
    }

    /// Takes tasks that may not be the first ones.
    fn take_some(
        &self,
        state: &State,
        step: usize,
        lease: &LeaseStep,
        taken: &Taken,
    ) -> Option<State> {
        let pending = state.model.next(self.queue, usize::MAX);
        let place = |entry: &Entry| {
            let id = &entry.envelope.id;
            let mut leased = lease.tasks.iter();
            leased.position(|leased| leased.envelope.id == *id)
        };
        // In the order of the response.
        let mut found: Vec<_> = pending.iter().filter(|one| place(one).is_some()).collect();
        found.sort_by_key(|entry| place(entry));
        let found: Vec<Entry> = found.into_iter().cloned().collect();
        let may_be_passed = |entry: &Entry| {
            let version = Version::pending(&entry.envelope);
            self.foresight
                .may_be_passed_over(lease.passes_over, version)
        };
        let is_in_turn = |(ahead, entry): (usize, &Entry)| {
            let turn = place(entry).unwrap_or(usize::MAX);
            let mut passes = pending[ahead + 1..]
                .iter()
                .filter(|later| place(later).is_some_and(|place| place < turn));
            let is_left = turn == usize::MAX && lease.is_all;
            let is_passed = passes.any(|later| !self.may_be_swapped(entry, later)) || is_left;
            !is_passed || may_be_passed(entry)
        };
        let is_plausible =
            is_same(found.iter(), lease) && pending.iter().enumerate().all(is_in_turn);
        is_plausible.then(|| self.activate(state, step, lease, &found, taken))?
    }

    /// Whether two pending tasks may be in the opposite order.
    fn may_be_swapped(&self, one: &Entry, other: &Entry) -> bool {
        let priority = |entry: &Entry| entry.envelope.options.priority;
        let version = |entry: &Entry| Version::pending(&entry.envelope);
        let may_be_swapped = || self.foresight.may_be_swapped(version(one), version(other));
        priority(one) == priority(other) && may_be_swapped()
    }

    /// Leases these tasks, unless later responses show them pending.
    fn activate(
        &self,
        state: &State,
        step: usize,
        lease: &LeaseStep,
        next: &[Entry],
        taken: &Taken,
    ) -> Option<State> {
        let may_end = |entry: &Entry| {
            let version = Version::pending(&entry.envelope);
            self.foresight.may_end(version, step, taken)
        };
        if !next.iter().all(may_end) {
            return None;
        }
        let mut state = state.clone();
        for entry in next {
            let id = &entry.envelope.id;
            let leased = lease
                .tasks
                .iter()
                .find(|leased| leased.envelope.id == *id)?;
            state.model.activate(entry, leased.token, lease.lease);
        }
        Some(state)
    }

    /// The states in which this is what a lost lease of the same worker took.
    fn take_lost(&self, state: &State, step: usize, lease: &LeaseStep) -> Vec<State> {
        let client = self.steps[step].client;
        let is_ours = |token: LeaseToken| {
            let lost = lost_step(token, self.steps.len())?;
            (self.steps[lost].client == client).then_some(lost)
        };
        let mut lost: BTreeMap<usize, Vec<Entry>> = BTreeMap::new();
        for (entry, token) in state.model.active(self.queue) {
            if let Some(step) = is_ours(token) {
                lost.entry(step).or_default().push(entry);
            }
        }
        let taken = lost
            .into_values()
            .filter(|tasks| is_same(tasks.iter(), lease));
        let adopt = |_| {
            let mut state = state.clone();
            for leased in &lease.tasks {
                let task = leased.envelope.task_ref();
                state.model.adopt(&task, leased.token, lease.lease);
            }
            state
        };
        taken.map(adopt).collect()
    }
}

/// Whether these tasks were returned, in their order, or in the order of their ids if the first response was lost.
fn is_same<'a>(tasks: impl Iterator<Item = &'a Entry>, lease: &LeaseStep) -> bool {
    let mut tasks: Vec<_> = tasks.map(|entry| &entry.envelope).collect();
    let mut leased: Vec<_> = lease.tasks.iter().map(|leased| &leased.envelope).collect();
    if lease
        .tasks
        .iter()
        .all(|leased| leased.pending_since.is_none())
    {
        tasks.sort_by_key(|task| &task.id);
        leased.sort_by_key(|task| &task.id);
    }
    tasks == leased
}
