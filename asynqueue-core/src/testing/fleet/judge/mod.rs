//! Decides from the events whether each promise was kept.

mod ends;
mod leases;
mod locks;
mod story;
mod troubles;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use self::{
    story::{Held, Run, State, Story},
    troubles::Troubles,
};
use super::{Broken, Done, Ending, Entry, Event, Fleet, Promise, Taken, drive::Remains};
use crate::{
    broker::{Aggregation, Change, Conflict, Edit, Edited, Move, NewTask, Outcome, Settled, When},
    task::{Name, TaskRef, Timestamp},
};

/// Bounds that depend on the fleet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// How soon a due task starts while no fault is active, if this is promised.
    pub(super) prompt: Option<Duration>,
    /// How long a shutdown may take.
    pub(super) shutdown: Duration,
}

/// The promises that were not kept.
pub(super) fn judge(remains: &Remains, fleet: &Fleet) -> Vec<Broken> {
    let mut judge = Judge {
        troubles: Troubles::of(&remains.entries, &fleet.queues),
        stories: BTreeMap::new(),
        keys: BTreeMap::new(),
        freed: BTreeMap::new(),
        ticks: BTreeMap::new(),
        paused: BTreeSet::new(),
        resumed: BTreeMap::new(),
        counts: BTreeMap::new(),
        bounds: fleet.bounds,
        broken: Vec::new(),
    };
    for entry in &remains.entries {
        judge.read(entry);
    }
    judge.check_ends(remains);
    judge.broken
}

/// How many attempts of a queue have ended, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    succeeded: u64,
    failed: u64,
    /// Lost with their server.
    lost: u64,
}

struct Judge {
    troubles: Troubles,
    stories: BTreeMap<TaskRef, Story>,
    /// The holder of each unique key of a queue.
    keys: BTreeMap<(Name, String), TaskRef>,
    /// The last holder of each free key.
    freed: BTreeMap<(Name, String), TaskRef>,
    /// The task of each tick of each entry.
    ticks: BTreeMap<(Name, Name, Timestamp), TaskRef>,
    /// The paused queues.
    paused: BTreeSet<Name>,
    /// When queues were last resumed.
    resumed: BTreeMap<Name, Duration>,
    counts: BTreeMap<Name, Counts>,
    bounds: Bounds,
    broken: Vec<Broken>,
}

impl Judge {
    fn broken(&mut self, promise: Promise, entry: &Entry, what: impl std::fmt::Display) {
        let what = format!("{what}; at {entry}");
        self.broken.push(Broken::new(promise, what));
    }

    fn read(&mut self, entry: &Entry) {
        match &entry.event {
            Event::Enqueued(task, Ok(())) => self.accepted(entry, task),
            Event::Enqueued(task, Err(conflict)) => self.refused(entry, task, conflict),
            Event::Leased(taken) => self.leased(entry, taken),
            Event::Settled(ending) => self.settled(entry, ending),
            Event::Edited(edit, Edited::Done) => self.edited(entry, edit),
            Event::Aggregated(aggregation, Ok(true)) => self.aggregated(entry, aggregation),
            Event::Paused(queue, true) => drop(self.paused.insert(queue.clone())),
            Event::Paused(queue, false) => {
                self.paused.remove(queue);
                self.resumed.insert(queue.clone(), entry.at);
            }
            Event::QueueDeleted(queue) => {
                self.stories.retain(|task, _| task.queue != *queue);
                self.keys.retain(|(of, _), _| of != queue);
                self.freed.retain(|(of, _), _| of != queue);
                self.counts.remove(queue);
            }
            Event::Began(task, attempt) => self.started(entry, task, *attempt),
            Event::Done(task, attempt, how) => self.ended(entry, task, *attempt, *how),
            Event::ShutDown(took) if *took > self.bounds.shutdown => {
                let what = format!("a server took {took:?} to stop");
                self.broken(Promise::ShutDown, entry, what);
            }
            Event::Problem(problem) => self.broken(Promise::NothingLeft, entry, problem),
            _ => {}
        }
    }

    fn accepted(&mut self, entry: &Entry, task: &NewTask) {
        let envelope = &task.envelope;
        let id = envelope.task_ref();
        if let Some(before) = self.stories.get(&id)
            && !before.may_be_gone()
        {
            let what = format!("{id} was accepted while another task has its id");
            self.broken(Promise::States, entry, what);
        }
        if let Some(tick) = &task.tick {
            let key = (id.queue.clone(), tick.guard.clone(), tick.tick);
            if let Some(other) = self.ticks.insert(key, id.clone())
                && !self.troubles.clock_was_set(entry.at)
            {
                let what = format!("a tick was enqueued as {id}, after {other}");
                self.broken(Promise::OneTick, entry, what);
            }
        }
        self.lock(entry, task);
        let due = match task.when {
            When::Now => Timestamp::default(),
            When::After(delay) => entry.now + delay,
            When::At(time) => time,
        };
        let is_member = envelope.options.aggregate.is_some();
        self.stories
            .insert(id, Story::new(entry.at, due, envelope.attempts, is_member));
    }

    fn edited(&mut self, entry: &Entry, edit: &Edit) {
        let id = edit.task_ref();
        let Some(story) = self.stories.get_mut(&id) else {
            let what = format!("{id} was edited, but had not been accepted");
            return self.broken(Promise::States, entry, what);
        };
        // A task that an operator lets run again takes its key again.
        self.freed.retain(|_, holder| *holder != id);
        let is_active = matches!(story.state, State::Active(_));
        let is_cancelled = matches!(edit.change, Change::Cancel { .. });
        story.is_edited = true;
        match &edit.change {
            Change::Cancel { .. } => story.is_cancelled = true,
            Change::Delete => story.state = State::Gone,
            Change::Put { envelope, to } => {
                story.set_attempts(envelope.attempts);
                match to {
                    Some(Move::Pending) => story.wait(entry.at, Timestamp::default()),
                    Some(Move::Scheduled(time)) => story.wait(entry.at, *time),
                    Some(Move::Archived) => story.state = State::Archived,
                    None => {}
                }
            }
        }
        if is_active != is_cancelled {
            let what = format!("{id} was edited in a state that does not allow it");
            self.broken(Promise::States, entry, what);
        }
    }

    fn aggregated(&mut self, entry: &Entry, aggregation: &Aggregation) {
        for member in &aggregation.group.members {
            let id = member.task_ref();
            let waits = self.stories.get_mut(&id).is_some_and(|story| {
                let waits = story.is_member && matches!(story.state, State::Waiting(_));
                story.state = State::Gone;
                waits
            });
            if !waits {
                let what = format!("{id} was aggregated, but did not wait in a group");
                self.broken(Promise::Grouped, entry, what);
            }
        }
        self.accepted(entry, &aggregation.task);
    }
}
