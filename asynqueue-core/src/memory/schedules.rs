//! Schedule entries.

use async_trait::async_trait;

use super::MemoryBroker;
use crate::{
    broker::{BrokerError, Conflict, Fire, NewTask, ScheduleEntry, Schedules, When},
    task::Name,
};

#[async_trait]
impl Schedules for MemoryBroker {
    async fn put_schedules(&self, entries: Vec<ScheduleEntry>) -> Result<(), BrokerError> {
        self.open()?;
        let entries = entries.into_iter().map(|entry| (entry.name.clone(), entry));
        self.0.schedules.lock().extend(entries);
        Ok(())
    }

    async fn remove_schedules(&self, names: &[Name]) -> Result<Vec<bool>, BrokerError> {
        self.open()?;
        let mut schedules = self.0.schedules.lock();
        Ok(names
            .iter()
            .map(|name| schedules.remove(name).is_some())
            .collect())
    }

    async fn schedules(&self) -> Result<Vec<ScheduleEntry>, BrokerError> {
        self.open()?;
        Ok(self.0.schedules.lock().values().cloned().collect())
    }

    async fn fire(&self, ticks: Vec<Fire>) -> Result<Vec<Result<bool, Conflict>>, BrokerError> {
        self.open()?;
        let now = self.clock_now();
        let mut schedules = self.0.schedules.lock();
        let fire = |Fire {
                        name,
                        tick,
                        envelope,
                        next,
                    }: Fire| {
            let due = schedules
                .get_mut(&name)
                .filter(|entry| entry.next == Some(tick));
            let Some(entry) = due else { return Ok(false) };
            let queue = self.queue(&envelope.queue);
            let enqueued = queue.lock().enqueue(
                NewTask {
                    envelope,
                    when: When::Now,
                },
                now,
            );
            entry.next = next;
            enqueued.map(|()| true)
        };
        Ok(ticks.into_iter().map(fire).collect())
    }
}
