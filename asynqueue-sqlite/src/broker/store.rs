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
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use super::SqliteBroker;
use crate::link::Need;

#[async_trait]
impl Store for SqliteBroker {
    fn now(&self) -> Timestamp {
        self.link().now()
    }

    async fn enqueue(&self, tasks: Vec<NewTask>) -> Result<Vec<Result<(), Conflict>>, BrokerError> {
        self.accept(tasks, Need::Own).await
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<Each<Vec<Leased>>, BrokerError> {
        self.lease_pending(request).await
    }

    async fn extend(
        &self,
        leases: &[Lease],
        lease: Duration,
    ) -> Result<Each<Extended>, BrokerError> {
        self.extend_all(leases, lease).await
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Each<Settled>, BrokerError> {
        self.settle_all(settlements).await
    }

    async fn forward(&self, queues: &[Name], limit: usize) -> Result<Each<Forwarded>, BrokerError> {
        self.forward_due(queues, limit).await
    }

    async fn expired(
        &self,
        queues: &[Name],
        by: Timestamp,
        limit: usize,
    ) -> Result<Each<Vec<Leased>>, BrokerError> {
        self.find_expired(queues, by, limit).await
    }

    async fn trim(
        &self,
        queues: &[Name],
        keep: Keep,
        limit: usize,
    ) -> Result<Each<Trimmed>, BrokerError> {
        self.trim_old(queues, keep, limit).await
    }

    async fn queues(&self) -> Result<Vec<Name>, BrokerError> {
        self.known_queues().await
    }

    async fn stats(&self, queues: &[Name]) -> Result<Vec<QueueStats>, BrokerError> {
        self.stats_of(queues).await
    }

    async fn tasks(&self, tasks: &[TaskRef]) -> Result<Vec<Option<TaskInfo>>, BrokerError> {
        self.look_all(tasks).await
    }

    async fn list(
        &self,
        queue: &Name,
        state: TaskState,
        page: Page,
    ) -> Result<TaskPage, BrokerError> {
        self.list_page(queue, state, page).await
    }

    async fn edit(&self, edits: &[Edit]) -> Result<Vec<Edited>, BrokerError> {
        self.edit_all(edits).await
    }

    async fn set_paused(&self, queues: &[Name], paused: bool) -> Result<(), BrokerError> {
        self.pause_all(queues, paused).await
    }

    async fn delete_queue(&self, queue: &Name, force: bool) -> Result<bool, BrokerError> {
        self.delete_whole(queue, force).await
    }

    async fn document(
        &self,
        space: Space,
        names: &[Name],
    ) -> Result<Vec<Option<Document>>, BrokerError> {
        self.documents_named(space, names).await
    }

    async fn documents(&self, space: Space) -> Result<Vec<(Name, Document)>, BrokerError> {
        self.documents_of(space).await
    }

    async fn swap(&self, sets: Vec<Vec<DocumentSwap>>) -> Result<Vec<Swapped>, BrokerError> {
        self.swap_documents(sets).await
    }

    async fn due(&self, space: Space, limit: usize) -> Result<DueDocuments, BrokerError> {
        self.due_documents(space, limit).await
    }

    async fn close(&self) {
        self.link().close().await;
    }

    fn capabilities(&self) -> Capabilities {
        let mut offers = Capabilities::default();
        offers.is_shared = self.link().file.path().is_some();
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
        self.link().read(|_| Ok(())).await
    }

    async fn enqueue_durably(
        &self,
        tasks: Vec<NewTask>,
        durability: Durability,
    ) -> Result<Vec<Result<(), Conflict>>, BrokerError> {
        let need = match durability {
            durability if durability.is_primary() => Need::Own,
            Durability::Fsync => Need::Disk,
            _ => {
                let problem = format!("durability `{durability}`: SQLite has no replicas");
                return Err(BrokerError::unsupported(problem));
            }
        };
        self.accept(tasks, need).await
    }

    async fn forget_ticks(&self, guards: &[(Name, Name)]) -> Result<(), BrokerError> {
        self.forget_guards(guards).await
    }

    async fn signals(&self, queues: &[Name]) -> Result<Signals, BrokerError> {
        self.link().open_or_closed()?;
        let signals = self.link().announcer.listen(queues);
        let next = |mut signals: mpsc::UnboundedReceiver<_>| async {
            signals.recv().await.map(|signal| (signal, signals))
        };
        Ok(stream::unfold(signals, next).boxed())
    }

    async fn finished(&self, task: &TaskRef) -> Result<Finished, BrokerError> {
        self.wait_for(task).await
    }

    async fn report(&self, progress: Vec<(Lease, Progress)>) -> Result<(), BrokerError> {
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
        self.history_of(queues, since).await
    }

    async fn memory(&self, queues: &[Name]) -> Result<Vec<Option<u64>>, BrokerError> {
        self.memory_of(queues).await
    }

    async fn nodes(&self) -> Result<Vec<Node>, BrokerError> {
        self.the_node().await
    }

    async fn import(&self, tasks: Vec<Import>) -> Result<Vec<Imported>, BrokerError> {
        self.import_all(tasks).await
    }

    async fn absorb(
        &self,
        queue: &Name,
        id: &Name,
        totals: Option<&Totals>,
    ) -> Result<bool, BrokerError> {
        self.absorb_totals(queue, id, totals).await
    }

    async fn due_groups(
        &self,
        queues: &[Name],
        events: &[Name],
        limit: usize,
    ) -> Result<DueGroups, BrokerError> {
        self.find_due_groups(queues, events, limit).await
    }

    async fn groups(&self, queue: &Name, limit: usize) -> Result<Vec<GroupInfo>, BrokerError> {
        self.groups_of(queue, limit).await
    }

    async fn aggregate(
        &self,
        aggregation: Aggregation,
    ) -> Result<Result<bool, Conflict>, BrokerError> {
        self.aggregate_members(aggregation).await
    }

    async fn set_apart(&self, members: SetApart) -> Result<usize, BrokerError> {
        self.set_members_apart(members).await
    }

    async fn postpone(&self, group: &Group, delay: Duration) -> Result<(), BrokerError> {
        self.postpone_group(group, delay).await
    }
}
