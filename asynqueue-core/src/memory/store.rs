//! The store's methods: each finds its queues and calls their methods.

use std::{sync::atomic::Ordering, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use super::{MemoryBroker, queue::Queue};
use crate::{
    broker::{
        Aggregation, BrokerError, Capabilities, Conflict, Document, DocumentSwap, DueDocuments,
        DueGroups, Each, Edit, Edited, Extended, Finished, Forwarded, Group, GroupInfo, HourStats,
        Import, Imported, Keep, Lease, LeaseRequest, Leased, NewTask, Node, Page, Point,
        PointQuery, QueueStats, SetApart, Settled, Settlement, Signals, Space, Store, Swapped,
        TaskInfo, TaskPage, Totals, Trimmed,
    },
    process::Progress,
    task::{Name, TaskRef, TaskState, Timestamp},
};

#[async_trait]
impl Store for MemoryBroker {
    fn now(&self) -> Timestamp {
        self.clock_now()
    }

    async fn enqueue(&self, tasks: Vec<NewTask>) -> Result<Vec<Result<(), Conflict>>, BrokerError> {
        self.open()?;
        let now = self.clock_now();
        Ok(self.each_in_queue(
            tasks,
            |task| &task.envelope.queue,
            |queue, task| queue.enqueue(task, now),
        ))
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<Each<Vec<Leased>>, BrokerError> {
        self.open()?;
        let (now, mut left) = (self.now_and_steady(), request.max);
        let lease = |(name, cap): &(Name, usize)| {
            let mut leased = Vec::new();
            if let Some(queue) = self.known(name) {
                let (lease, worker) = (request.lease, &request.worker);
                let count = (*cap).min(left);
                queue.lock().lease(count, now, lease, worker, &mut leased);
            }
            left -= leased.len();
            Ok(leased)
        };
        Ok(request.queues.iter().map(lease).collect())
    }

    async fn extend(
        &self,
        leases: &[Lease],
        lease: Duration,
    ) -> Result<Each<Extended>, BrokerError> {
        self.open()?;
        let until = self.now_and_steady().steady + lease;
        Ok(self.each_in_queue(
            leases,
            |lease| &lease.task.queue,
            |queue, lease| Ok(queue.extend(&lease.task.id, lease.token, until)),
        ))
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Each<Settled>, BrokerError> {
        self.open()?;
        let now = self.now_and_steady();
        Ok(self.each_in_queue(
            settlements,
            |settlement| &settlement.envelope.queue,
            |queue, settlement| Ok(queue.settle(settlement, now)),
        ))
    }

    async fn forward(&self, queues: &[Name], limit: usize) -> Result<Each<Forwarded>, BrokerError> {
        self.open()?;
        let now = self.clock_now();
        let forward = |queue: &mut Queue| Forwarded {
            moved: queue.forward(now, limit),
            next_due: queue.next_due(),
        };
        Ok(self.each_known(queues, forward))
    }

    async fn expired(
        &self,
        queues: &[Name],
        by: Timestamp,
        limit: usize,
    ) -> Result<Each<Vec<Leased>>, BrokerError> {
        self.open()?;
        let now = self.now_and_steady();
        Ok(self.each_known(queues, |queue| {
            let mut expired = Vec::new();
            queue.expired(now, by, limit, &mut expired);
            expired
        }))
    }

    async fn trim(
        &self,
        queues: &[Name],
        keep: Keep,
        limit: usize,
    ) -> Result<Each<Trimmed>, BrokerError> {
        self.open()?;
        let now = self.clock_now();
        Ok(self.each_known(queues, |queue| queue.trim(now, keep, limit)))
    }

    async fn queues(&self) -> Result<Vec<Name>, BrokerError> {
        self.open()?;
        let queues = self.0.queues.read();
        let used = queues.iter().filter(|(_, queue)| queue.lock().was_used);
        Ok(used.map(|(name, _)| name.clone()).collect())
    }

    async fn stats(&self, queues: &[Name]) -> Result<Vec<QueueStats>, BrokerError> {
        self.open()?;
        let now = self.clock_now();
        self.each_known(queues, |queue| queue.stats(now))
            .into_iter()
            .collect()
    }

    async fn tasks(&self, tasks: &[TaskRef]) -> Result<Vec<Option<TaskInfo>>, BrokerError> {
        self.open()?;
        let now = self.now_and_steady();
        let info = |task: &TaskRef| self.known(&task.queue)?.lock().info(&task.id, now);
        Ok(tasks.iter().map(info).collect())
    }

    async fn list(
        &self,
        queue: &Name,
        state: TaskState,
        page: Page,
    ) -> Result<TaskPage, BrokerError> {
        self.open()?;
        let now = self.now_and_steady();
        let queue = self.known(queue);
        Ok(queue.map_or_else(TaskPage::default, |queue| {
            queue.lock().list(state, &page, now)
        }))
    }

    async fn edit(&self, edits: &[Edit]) -> Result<Vec<Edited>, BrokerError> {
        self.open()?;
        let now = self.clock_now();
        Ok(self.each_in_queue(
            edits,
            |edit| &edit.seen.envelope.queue,
            |queue, edit| queue.edit(edit, now),
        ))
    }

    async fn set_paused(&self, queues: &[Name], paused: bool) -> Result<(), BrokerError> {
        self.open()?;
        self.each_in_queue(queues, |name| name, |queue, _| queue.set_paused(paused));
        Ok(())
    }

    async fn delete_queue(&self, queue: &Name, force: bool) -> Result<bool, BrokerError> {
        self.open()?;
        let queue = self.known(queue);
        Ok(queue.is_none_or(|queue| queue.lock().clear(force)))
    }

    async fn document(
        &self,
        space: Space,
        names: &[Name],
    ) -> Result<Vec<Option<Document>>, BrokerError> {
        self.open()?;
        let documents = self.0.documents.lock();
        Ok(names
            .iter()
            .map(|name| documents.get(space, name).cloned())
            .collect())
    }

    async fn documents(&self, space: Space) -> Result<Vec<(Name, Document)>, BrokerError> {
        self.open()?;
        Ok(self.0.documents.lock().all(space))
    }

    async fn swap(&self, sets: Vec<Vec<DocumentSwap>>) -> Result<Vec<Swapped>, BrokerError> {
        self.open()?;
        let mut documents = self.0.documents.lock();
        Ok(sets.into_iter().map(|set| documents.swap(set)).collect())
    }

    async fn due(&self, space: Space, limit: usize) -> Result<DueDocuments, BrokerError> {
        self.open()?;
        let now = self.clock_now();
        Ok(self.0.documents.lock().due(space, now, limit))
    }

    async fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        // Dropping the queues' senders ends the streams of signals, and fails the waiters for results.
        for queue in self.0.queues.read().values() {
            queue.lock().listeners.disconnect();
        }
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            signals: true,
            groups: true,
            progress: true,
            history: true,
            points: true,
            memory: true,
            import: true,
            ..Capabilities::default()
        }
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        self.open()
    }

    async fn forget_ticks(&self, guards: &[(Name, Name)]) -> Result<(), BrokerError> {
        self.open()?;
        for (queue, guard) in guards {
            if let Some(queue) = self.known(queue) {
                queue.lock().fired.remove(guard);
            }
        }
        Ok(())
    }

    async fn signals(&self, queues: &[Name]) -> Result<Signals, BrokerError> {
        self.open()?;
        let (listener, signals) = mpsc::unbounded_channel();
        for name in queues {
            self.queue(name).lock().listeners.listen(listener.clone());
        }
        // Checked again: a close in between has disconnected only the listeners that existed then.
        self.open()?;
        let next = |mut signals: mpsc::UnboundedReceiver<_>| async {
            signals.recv().await.map(|signal| (signal, signals))
        };
        Ok(stream::unfold(signals, next).boxed())
    }

    async fn finished(&self, task: &TaskRef) -> Result<Finished, BrokerError> {
        self.open()?;
        let Some(queue) = self.known(&task.queue) else {
            return Ok(Finished::Gone);
        };
        let finished = {
            let mut queue = queue.lock();
            // Checked again: a close in between has disconnected only the waiters that existed then.
            self.open()?;
            match queue.tasks.get(&task.id) {
                None => return Ok(Finished::Gone),
                Some(record) => match record.end() {
                    Some(finished) => return Ok(finished),
                    None => queue.listeners.wait(&task.id),
                },
            }
        };
        // The sender exists as long as the queue does.
        finished.await.map_err(|_| BrokerError::Closed)
    }

    async fn report(&self, progress: Vec<(Lease, Progress)>) -> Result<(), BrokerError> {
        self.open()?;
        self.each_in_queue(
            progress,
            |(lease, _)| &lease.task.queue,
            |queue, (lease, progress)| {
                let record = queue.tasks.get_mut(&lease.task.id);
                if let Some(activity) = record.and_then(|record| record.lease(lease.token)) {
                    activity.progress = Some(progress);
                }
            },
        );
        Ok(())
    }

    async fn add_points(&self, points: Vec<Point>) -> Result<(), BrokerError> {
        self.open()?;
        self.0.points.lock().add(points, self.clock_now());
        Ok(())
    }

    async fn points(&self, query: &PointQuery) -> Result<Vec<Point>, BrokerError> {
        self.open()?;
        Ok(self.0.points.lock().read(query, self.clock_now()))
    }

    async fn history(
        &self,
        queues: &[Name],
        since: Timestamp,
    ) -> Result<Vec<Vec<HourStats>>, BrokerError> {
        self.open()?;
        let now = self.clock_now();
        self.each_known(queues, |queue| queue.history(since, now))
            .into_iter()
            .collect()
    }

    async fn memory(&self, queues: &[Name]) -> Result<Vec<Option<u64>>, BrokerError> {
        self.open()?;
        let memory = self.each_known(queues, |queue| queue.memory());
        memory.into_iter().map(|bytes| bytes.map(Some)).collect()
    }

    async fn nodes(&self) -> Result<Vec<Node>, BrokerError> {
        self.open()?;
        let queues: Vec<_> = self.0.queues.read().values().cloned().collect();
        let memory = queues.iter().map(|queue| queue.lock().memory());
        Ok(vec![Node {
            address: format!("process {}", std::process::id()),
            version: concat!("in memory ", env!("CARGO_PKG_VERSION")).into(),
            memory: Some(memory.sum()),
            info: Vec::new(),
        }])
    }

    async fn due_groups(
        &self,
        queues: &[Name],
        events: &[Name],
        limit: usize,
    ) -> Result<DueGroups, BrokerError> {
        self.open()?;
        let now = self.clock_now();
        let mut found = DueGroups::default();
        for queue in queues.iter().filter_map(|name| self.known(name)) {
            queue.lock().due_groups(events, limit, now, &mut found);
        }
        Ok(found)
    }

    async fn groups(&self, queue: &Name, limit: usize) -> Result<Vec<GroupInfo>, BrokerError> {
        self.open()?;
        let queue = self.known(queue);
        Ok(queue.map_or_else(Vec::new, |queue| queue.lock().group_infos(limit)))
    }

    async fn aggregate(
        &self,
        aggregation: Aggregation,
    ) -> Result<Result<bool, Conflict>, BrokerError> {
        self.open()?;
        let queue = self.queue(&aggregation.group.queue);
        let aggregated = queue.lock().aggregate(aggregation, self.clock_now());
        Ok(aggregated)
    }

    async fn set_apart(&self, members: SetApart) -> Result<usize, BrokerError> {
        self.open()?;
        let now = self.clock_now();
        let queue = self.known(&members.group.queue);
        Ok(queue.map_or(0, |queue| queue.lock().set_apart(&members, now)))
    }

    async fn postpone(&self, group: &Group, delay: Duration) -> Result<(), BrokerError> {
        self.open()?;
        let until = self.clock_now() + delay;
        if let Some(queue) = self.known(&group.queue) {
            queue.lock().postpone(group, until);
        }
        Ok(())
    }

    async fn import(&self, tasks: Vec<Import>) -> Result<Vec<Imported>, BrokerError> {
        self.open()?;
        let now = self.clock_now();
        Ok(self.each_in_queue(
            tasks,
            |task| &task.envelope.queue,
            |queue, task| queue.import(task, now),
        ))
    }

    async fn absorb(
        &self,
        queue: &Name,
        id: &Name,
        totals: Option<&Totals>,
    ) -> Result<bool, BrokerError> {
        self.open()?;
        let queue = self.queue(queue);
        let mut queue = queue.lock();
        Ok(match totals {
            Some(totals) => queue.absorb(id, totals),
            None => !queue.absorbed.contains(id),
        })
    }
}
