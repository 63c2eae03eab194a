//! `Inspect`: calls the store's methods of the same name, and reads the records of pauses.

use async_trait::async_trait;

use super::{as_stored, pauses};
use crate::{
    broker::{
        BrokerError, HourStats, Inspect, Node, Page, Pausable, Pause, Point, PointQuery,
        QueueStats, Store, TaskInfo, TaskPage,
    },
    task::{Name, TaskRef, TaskState, Timestamp},
};

#[async_trait]
impl<S: Store> Inspect for S {
    as_stored! {
        fn queues() -> Vec<Name>;
        fn stats(['life1] queues: [Name]) -> Vec<QueueStats>;
        fn history(['life1] queues: [Name], since: Timestamp) -> Vec<Vec<HourStats>>;
        fn points(['life1] query: PointQuery) -> Vec<Point>;
        fn memory(['life1] queues: [Name]) -> Vec<Option<u64>>;
        fn nodes() -> Vec<Node>;
        fn tasks(['life1] tasks: [TaskRef]) -> Vec<Option<TaskInfo>>;
        fn list(['life1] queue: Name, state: TaskState, page: Page) -> TaskPage;
    }

    async fn pauses(&self, of: &[Pausable]) -> Result<Vec<Option<Pause>>, BrokerError> {
        pauses::read(self, of).await
    }

    fn place(&self, queue: &Name) -> Option<String> {
        Store::place(self, queue)
    }
}
