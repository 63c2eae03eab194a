//! The implementation of the store. Each method has its own file.

use std::time::Duration;

use async_trait::async_trait;
use asynqueue_core::{
    broker::{
        Aggregation, BrokerError, Capabilities, Conflict, Document, DocumentSwap, DueDocuments,
        DueGroups, Durability, Each, Edit, Edited, Extended, Finished, Forwarded, Group, GroupInfo,
        HourStats, Import, Imported, Keep, Lease, LeaseRequest, Leased, NewTask, Node, Page, Point,
        PointQuery, QueueStats, SetApart, Settled, Settlement, Signals, Space, Store, Swapped,
        TaskInfo, TaskPage, Totals, Trimmed,
    },
    process::Progress,
    task::{Name, TaskRef, TaskState, Timestamp},
};
use futures_util::future::try_join_all;

use super::RedisBroker;

#[async_trait]
impl Store for RedisBroker {
    fn now(&self) -> Timestamp {
        match &self.0.clock {
            Some(clock) => clock.now(),
            None => self.link().clock().now(),
        }
    }

    async fn enqueue(&self, tasks: Vec<NewTask>) -> Result<Vec<Result<(), Conflict>>, BrokerError> {
        self.link().open_or_closed()?;
        self.accept(tasks, self.0.durability).await
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<Each<Vec<Leased>>, BrokerError> {
        self.link().open_or_closed()?;
        Ok(self.lease_from_all(request).await)
    }

    async fn extend(
        &self,
        leases: &[Lease],
        lease: Duration,
    ) -> Result<Each<Extended>, BrokerError> {
        self.link().open_or_closed()?;
        Ok(self.extend_all(leases, lease).await)
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Each<Settled>, BrokerError> {
        self.link().open_or_closed()?;
        Ok(self.settle_all(settlements).await)
    }

    async fn forward(&self, queues: &[Name], limit: usize) -> Result<Each<Forwarded>, BrokerError> {
        self.link().open_or_closed()?;
        Ok(self.forward_due(queues, limit).await)
    }

    async fn expired(
        &self,
        queues: &[Name],
        by: Timestamp,
        limit: usize,
    ) -> Result<Each<Vec<Leased>>, BrokerError> {
        self.link().open_or_closed()?;
        Ok(self.find_expired(queues, by, limit).await)
    }

    async fn trim(
        &self,
        queues: &[Name],
        keep: Keep,
        limit: usize,
    ) -> Result<Each<Trimmed>, BrokerError> {
        self.link().open_or_closed()?;
        Ok(self.trim_old(queues, keep, limit).await)
    }

    async fn queues(&self) -> Result<Vec<Name>, BrokerError> {
        self.link().open_or_closed()?;
        self.known_queues().await
    }

    async fn stats(&self, queues: &[Name]) -> Result<Vec<QueueStats>, BrokerError> {
        self.link().open_or_closed()?;
        try_join_all(queues.iter().map(|name| self.stats_of(name))).await
    }

    async fn tasks(&self, tasks: &[TaskRef]) -> Result<Vec<Option<TaskInfo>>, BrokerError> {
        self.link().open_or_closed()?;
        self.look_all(tasks).await
    }

    async fn list(
        &self,
        queue: &Name,
        state: TaskState,
        page: Page,
    ) -> Result<TaskPage, BrokerError> {
        self.link().open_or_closed()?;
        self.list_page(queue, state, page).await
    }

    async fn edit(&self, edits: &[Edit]) -> Result<Vec<Edited>, BrokerError> {
        self.link().open_or_closed()?;
        self.edit_all(edits).await
    }

    async fn set_paused(&self, queues: &[Name], paused: bool) -> Result<(), BrokerError> {
        self.link().open_or_closed()?;
        self.pause_all(queues, paused).await
    }

    async fn delete_queue(&self, queue: &Name, force: bool) -> Result<bool, BrokerError> {
        self.link().open_or_closed()?;
        self.delete_whole(queue, force).await
    }

    async fn document(
        &self,
        space: Space,
        names: &[Name],
    ) -> Result<Vec<Option<Document>>, BrokerError> {
        self.link().open_or_closed()?;
        self.documents_named(space, names).await
    }

    async fn documents(&self, space: Space) -> Result<Vec<(Name, Document)>, BrokerError> {
        self.link().open_or_closed()?;
        self.documents_of(space).await
    }

    async fn swap(&self, sets: Vec<Vec<DocumentSwap>>) -> Result<Vec<Swapped>, BrokerError> {
        self.link().open_or_closed()?;
        self.swap_documents(&sets).await
    }

    async fn due(&self, space: Space, limit: usize) -> Result<DueDocuments, BrokerError> {
        self.link().open_or_closed()?;
        self.due_documents(space, limit).await
    }

    async fn close(&self) {
        self.release_all().await;
        self.link().close();
    }

    fn capabilities(&self) -> Capabilities {
        let mut offers = Capabilities::default();
        // In a Cluster, each queue is on one of its shards.
        offers.is_partitioned = self.link().is_cluster();
        offers.is_shared = true;
        offers.signals = true;
        offers.groups = true;
        offers.progress = true;
        offers.history = true;
        offers.points = true;
        offers.memory = true;
        offers.durability = true;
        offers.import = true;
        offers
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        self.link().open_or_closed()?;
        self.command(&redis::cmd("PING")).await.map(drop)
    }

    async fn enqueue_durably(
        &self,
        tasks: Vec<NewTask>,
        durability: Durability,
    ) -> Result<Vec<Result<(), Conflict>>, BrokerError> {
        self.link().open_or_closed()?;
        self.link().offers(durability)?;
        self.accept(tasks, durability).await
    }

    async fn forget_ticks(&self, guards: &[(Name, Name)]) -> Result<(), BrokerError> {
        self.link().open_or_closed()?;
        self.forget_guards(guards).await
    }

    async fn hand_over(&self, queues: &[Name]) -> Result<(), BrokerError> {
        self.link().open_or_closed()?;
        let queues: Vec<_> = queues.iter().map(|name| self.queue(name)).collect();
        self.release(&queues).await
    }

    async fn signals(&self, queues: &[Name]) -> Result<Signals, BrokerError> {
        self.link().open_or_closed()?;
        self.listen_to(queues).await
    }

    async fn pass_on(&self, queue: &Name) -> Result<(), BrokerError> {
        self.link().open_or_closed()?;
        self.pass_wakeup_on(&self.queue(queue)).await
    }

    async fn finished(&self, task: &TaskRef) -> Result<Finished, BrokerError> {
        self.link().open_or_closed()?;
        self.wait_for(task).await
    }

    async fn report(&self, progress: Vec<(Lease, Progress)>) -> Result<(), BrokerError> {
        self.link().open_or_closed()?;
        self.keep_progress(progress).await
    }

    async fn add_points(&self, points: Vec<Point>) -> Result<(), BrokerError> {
        self.add_to_points(points).await
    }

    async fn points(&self, query: &PointQuery) -> Result<Vec<Point>, BrokerError> {
        self.read_points(query).await
    }

    async fn history(
        &self,
        queues: &[Name],
        since: Timestamp,
    ) -> Result<Vec<Vec<HourStats>>, BrokerError> {
        self.link().open_or_closed()?;
        try_join_all(queues.iter().map(|name| self.history_of(name, since))).await
    }

    async fn memory(&self, queues: &[Name]) -> Result<Vec<Option<u64>>, BrokerError> {
        self.link().open_or_closed()?;
        try_join_all(queues.iter().map(|name| self.memory_of(name))).await
    }

    async fn nodes(&self) -> Result<Vec<Node>, BrokerError> {
        self.link().open_or_closed()?;
        self.link().nodes().await
    }

    fn place(&self, queue: &Name) -> Option<String> {
        self.slot_of(queue)
    }

    async fn due_groups(
        &self,
        queues: &[Name],
        events: &[Name],
        limit: usize,
    ) -> Result<DueGroups, BrokerError> {
        self.link().open_or_closed()?;
        self.find_due_groups(queues, events, limit).await
    }

    async fn groups(&self, queue: &Name, limit: usize) -> Result<Vec<GroupInfo>, BrokerError> {
        self.link().open_or_closed()?;
        self.groups_of(queue, limit).await
    }

    async fn aggregate(
        &self,
        aggregation: Aggregation,
    ) -> Result<Result<bool, Conflict>, BrokerError> {
        self.link().open_or_closed()?;
        self.aggregate_members(aggregation).await
    }

    async fn set_apart(&self, members: SetApart) -> Result<usize, BrokerError> {
        self.link().open_or_closed()?;
        self.set_members_apart(members).await
    }

    async fn postpone(&self, group: &Group, delay: Duration) -> Result<(), BrokerError> {
        self.link().open_or_closed()?;
        self.postpone_group(group, delay).await
    }

    async fn import(&self, tasks: Vec<Import>) -> Result<Vec<Imported>, BrokerError> {
        self.link().open_or_closed()?;
        self.import_all(tasks).await
    }

    async fn absorb(
        &self,
        queue: &Name,
        id: &Name,
        totals: Option<&Totals>,
    ) -> Result<bool, BrokerError> {
        self.link().open_or_closed()?;
        match totals {
            Some(totals) => self.absorb_in(queue, id, totals).await,
            None => self.has_not_absorbed(queue, id).await,
        }
    }
}
