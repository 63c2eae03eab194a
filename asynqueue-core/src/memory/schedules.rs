//! Schedule entries.

use std::collections::{BTreeMap, VecDeque};

use async_trait::async_trait;

use super::{MemoryBroker, entries::Entries};
use crate::{
    broker::{
        BrokerError, Conflict, DueSchedules, Fire, FireOutcome, NewTask, ScheduleEntry,
        ScheduleEvent, Schedules, Tick, When,
    },
    task::{Name, Timestamp},
};

/// The entries, and what came of their last ticks, newest first.
#[derive(Debug, Default)]
pub(super) struct ScheduleTable {
    entries: Entries,
    events: BTreeMap<Name, VecDeque<ScheduleEvent>>,
}

#[async_trait]
impl Schedules for MemoryBroker {
    async fn put_schedules(&self, entries: Vec<ScheduleEntry>) -> Result<(), BrokerError> {
        self.open()?;
        let mut schedules = self.0.schedules.lock();
        entries
            .into_iter()
            .for_each(|entry| schedules.entries.put(entry));
        Ok(())
    }

    async fn remove_schedules(&self, names: &[Name]) -> Result<Vec<bool>, BrokerError> {
        self.open()?;
        let mut schedules = self.0.schedules.lock();
        let mut remove = |name| {
            schedules.events.remove(name);
            schedules.entries.remove(name).is_some()
        };
        Ok(names.iter().map(&mut remove).collect())
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
                let task_at = NewTask {
                    envelope,
                    when: When::At(at),
                };
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
        schedules
            .entries
            .change(&fire.name, |entry| entry.next = next);
        if fired != Ok(false) {
            let events = schedules.events.entry(fire.name).or_default();
            events.truncate(ScheduleEvent::KEPT - 1);
            events.push_front(ScheduleEvent {
                tick: fire.tick,
                at: now,
                outcome,
            });
        }
        fired
    }
}
