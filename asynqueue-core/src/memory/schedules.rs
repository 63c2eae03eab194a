//! Schedule entries.

use std::collections::{BTreeMap, VecDeque};

use async_trait::async_trait;

use super::{MemoryBroker, declared::Removals, entries::Entries};
use crate::{
    broker::{
        BrokerError, Conflict, DueSchedules, Fire, FireOutcome, NewTask, Restored, ScheduleEntry,
        ScheduleEvent, ScheduleSwap, Schedules, StateMark, Tick, When,
    },
    task::{Name, Timestamp},
};

/// The entries, and what came of their last ticks, newest first.
#[derive(Debug, Default)]
pub(super) struct ScheduleTable {
    entries: Entries,
    events: BTreeMap<Name, VecDeque<ScheduleEvent>>,
    removals: Removals<Name>,
}

#[async_trait]
impl Schedules for MemoryBroker {
    async fn swap_schedules(&self, swaps: Vec<ScheduleSwap>) -> Result<Vec<bool>, BrokerError> {
        self.open()?;
        let mut schedules = self.0.schedules.lock();
        let swap = |swap: ScheduleSwap| {
            let is_as_seen = schedules.entries.get(&swap.name) == swap.seen.as_ref();
            if is_as_seen {
                if let Some(entry) = swap.left() {
                    self.forget_fired(entry);
                }
                match swap.new {
                    Some(new) => {
                        if swap.seen.is_none() {
                            schedules.removals.added(&new.name);
                        }
                        schedules.entries.put(new);
                    }
                    None => drop(self.remove_schedule(&mut schedules, &swap.name)),
                }
            }
            is_as_seen
        };
        Ok(swaps.into_iter().map(swap).collect())
    }

    async fn remove_schedules(&self, names: &[Name]) -> Result<Vec<bool>, BrokerError> {
        self.open()?;
        let mut schedules = self.0.schedules.lock();
        let names = names.iter();
        Ok(names
            .map(|name| self.remove_schedule(&mut schedules, name))
            .collect())
    }

    async fn schedules_mark(&self) -> Result<StateMark, BrokerError> {
        self.open()?;
        Ok(self.0.schedules.lock().removals.mark)
    }

    async fn restore_schedules(
        &self,
        declared: Vec<ScheduleEntry>,
    ) -> Result<Restored<Name>, BrokerError> {
        self.open()?;
        let now = self.clock_now();
        let schedules = &mut *self.0.schedules.lock();
        let mut found = Restored::default();
        for entry in declared {
            let name = entry.name.clone();
            if schedules.entries.get(&name).is_some() {
                continue;
            }
            if schedules.removals.has(&name, now) {
                found.removed.push(name);
            } else {
                schedules.removals.added(&name);
                schedules.entries.put(entry);
                found.restored.push(name);
            }
        }
        found.mark = schedules.removals.mark;
        Ok(found)
    }

    async fn schedule(&self, name: &Name) -> Result<Option<ScheduleEntry>, BrokerError> {
        self.open()?;
        Ok(self.0.schedules.lock().entries.get(name).cloned())
    }

    async fn schedules(&self) -> Result<Vec<ScheduleEntry>, BrokerError> {
        self.open()?;
        Ok(self.0.schedules.lock().entries.iter().cloned().collect())
    }

    async fn due_schedules(&self, limit: usize) -> Result<DueSchedules, BrokerError> {
        self.open()?;
        let now = self.clock_now();
        Ok(self.0.schedules.lock().entries.due(now, limit))
    }

    async fn fire(&self, ticks: Vec<Fire>) -> Result<Vec<Result<bool, Conflict>>, BrokerError> {
        self.open()?;
        let now = self.clock_now();
        Ok(ticks
            .into_iter()
            .map(|fire| self.fire_one(fire, now))
            .collect())
    }

    async fn schedule_events(
        &self,
        name: &Name,
        limit: usize,
    ) -> Result<Vec<ScheduleEvent>, BrokerError> {
        self.open()?;
        let schedules = self.0.schedules.lock();
        let events = schedules.events.get(name).into_iter().flatten();
        Ok(events.take(limit).cloned().collect())
    }
}

impl MemoryBroker {
    /// Removes an entry with all that is kept of it. Returns whether there was one.
    fn remove_schedule(&self, schedules: &mut ScheduleTable, name: &Name) -> bool {
        schedules.events.remove(name);
        schedules.removals.removed(name.clone(), self.clock_now());
        let Some(entry) = schedules.entries.remove(name) else {
            return false;
        };
        self.forget_fired(&entry);
        true
    }

    /// Forgets the last tick of an entry that has left its queue.
    fn forget_fired(&self, entry: &ScheduleEntry) {
        if let Some(queue) = self.known(&entry.template.queue) {
            queue.lock().fired.remove(&entry.name);
        }
    }

    fn fire_one(&self, fire: Fire, now: Timestamp) -> Result<bool, Conflict> {
        let schedules = &mut *self.0.schedules.lock();
        let is_due = |entry: &ScheduleEntry| entry.next == Some(fire.tick) && !entry.paused;
        if !schedules.entries.get(&fire.name).is_some_and(is_due) {
            return Ok(false);
        }
        let (fired, outcome) = match fire.what {
            Tick::Skip(reason) => (Ok(true), FireOutcome::Skipped(reason)),
            Tick::Enqueue(envelope, at) => {
                let (queue, task) = (self.queue(&envelope.queue), envelope.task_ref());
                let task_at = NewTask::new(envelope, When::At(at));
                match queue.lock().fire(&fire.name, fire.tick, task_at, now) {
                    Ok(is_new) => (Ok(is_new), FireOutcome::Enqueued(task)),
                    Err(conflict) => {
                        let reason = conflict.to_string();
                        (Err(conflict), FireOutcome::Refused(reason))
                    }
                }
            }
        };
        let next = fire.next;
        (schedules.entries).change(&fire.name, |entry| entry.next = next);
        let events = schedules.events.entry(fire.name).or_default();
        events.truncate(ScheduleEvent::KEPT - 1);
        events.push_front(ScheduleEvent {
            tick: fire.tick,
            at: now,
            outcome,
        });
        fired
    }
}
