//! What the misbehaving broker leaves to the one that it wraps.

use std::{
    sync::{Mutex, atomic::Ordering::SeqCst},
    time::Duration,
};

use async_trait::async_trait;
use asynqueue_core::*;

use super::faulty::Faulty;

#[async_trait]
impl Groups for Faulty {
    async fn due_groups(
        &self,
        queues: &[Name],
        events: &[Name],
        limit: usize,
    ) -> Result<DueGroups, BrokerError> {
        let silent = self.faults.silent.get();
        if queues.iter().any(|queue| Some(queue) == silent) {
            std::future::pending::<()>().await;
        }
        self.inner.due_groups(queues, events, limit).await
    }

    async fn groups(&self, queue: &Name, limit: usize) -> Result<Vec<GroupInfo>, BrokerError> {
        self.inner.groups(queue, limit).await
    }

    async fn aggregate(
        &self,
        aggregation: Aggregation,
    ) -> Result<Result<bool, Conflict>, BrokerError> {
        if Some(&aggregation.group.name) == self.faults.away_group.get() {
            return Err(BrokerError::unavailable("its server is away"));
        }
        let size = aggregation.task.envelope.payload.len();
        if size > self.faults.max_aggregate.load(SeqCst) {
            return Err(BrokerError::protocol("invalid bulk length"));
        }
        self.inner.aggregate(aggregation).await
    }

    async fn set_apart(&self, members: SetApart) -> Result<usize, BrokerError> {
        self.inner.set_apart(members).await
    }

    async fn postpone(&self, group: &Group, delay: Duration) -> Result<(), BrokerError> {
        self.inner.postpone(group, delay).await
    }
}

#[async_trait]
impl Schedules for Faulty {
    async fn swap_schedules(&self, swaps: Vec<ScheduleSwap>) -> Result<Vec<bool>, BrokerError> {
        self.inner.swap_schedules(swaps).await
    }

    async fn schedule(&self, name: &Name) -> Result<Option<ScheduleEntry>, BrokerError> {
        self.inner.schedule(name).await
    }

    async fn remove_schedules(&self, names: &[Name]) -> Result<Vec<bool>, BrokerError> {
        self.inner.remove_schedules(names).await
    }

    async fn schedules(&self) -> Result<Vec<ScheduleEntry>, BrokerError> {
        self.inner.schedules().await
    }

    async fn due_schedules(&self, limit: usize) -> Result<DueSchedules, BrokerError> {
        self.faults.turns.fetch_add(1, SeqCst);
        self.inner.due_schedules(limit).await
    }

    async fn fire(&self, ticks: Vec<Fire>) -> Result<Vec<Result<bool, Conflict>>, BrokerError> {
        let begins = |fault: &Mutex<Option<&str>>| {
            let name = *fault.lock().unwrap();
            name.is_some_and(|name| ticks.iter().any(|tick| tick.name.starts_with(name)))
        };
        if begins(&self.faults.unfired) {
            return Err(BrokerError::protocol("WRONGTYPE"));
        }
        if begins(&self.faults.unanswered) {
            std::future::pending::<()>().await;
        }
        self.inner.fire(ticks).await
    }

    async fn schedule_events(
        &self,
        name: &Name,
        limit: usize,
    ) -> Result<Vec<ScheduleEvent>, BrokerError> {
        self.inner.schedule_events(name, limit).await
    }
}

#[async_trait]
impl Fleet for Faulty {
    async fn beat(
        &self,
        server: ServerInfo,
        ttl: Duration,
    ) -> Result<Option<QuietRequest>, BrokerError> {
        self.inner.beat(server, ttl).await
    }

    async fn request_quiet(&self, server: &Name, quiet: bool) -> Result<bool, BrokerError> {
        self.inner.request_quiet(server, quiet).await
    }

    async fn leave(&self, server: &Name) -> Result<(), BrokerError> {
        self.inner.leave(server).await
    }

    async fn servers(&self) -> Result<Vec<ServerInfo>, BrokerError> {
        self.inner.servers().await
    }
}

#[async_trait]
impl Subscriptions for Faulty {
    async fn subscribe(&self, subscribers: Vec<(Name, Name)>) -> Result<(), BrokerError> {
        self.inner.subscribe(subscribers).await
    }

    async fn unsubscribe(&self, subscribers: &[(Name, Name)]) -> Result<Vec<bool>, BrokerError> {
        self.inner.unsubscribe(subscribers).await
    }

    async fn subscribers(&self, event: &Name) -> Result<Vec<Subscription>, BrokerError> {
        self.inner.subscribers(event).await
    }

    async fn subscriptions(&self) -> Result<Vec<Subscription>, BrokerError> {
        self.inner.subscriptions().await
    }
}
