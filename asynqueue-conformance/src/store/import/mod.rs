//! Tasks and statistics of another store arrive exactly as they were there.

mod groups;
mod locks;
mod places;
mod replace;
mod statistics;

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{
        Import, Imported, LeaseRequest, Leased, NewTask, QueueStats, Store, TaskInfo, TaskPlace,
        When, all_of,
    },
    task::{Envelope, Timestamp},
};

pub use self::{groups::*, locks::*, places::*, replace::*, statistics::*};
use crate::suite::fixture::{LEASE, QUEUE, secs, task_ref};

/// How long a signal or an end may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

fn import(envelope: Envelope, place: TaskPlace) -> Import {
    Import::new(Arc::new(envelope), place)
}

async fn import_all(store: &Arc<dyn Store>, tasks: Vec<Import>) -> Vec<Imported> {
    let sent = tasks.len();
    let imported = store.import(tasks).await.unwrap();
    assert_eq!(imported.len(), sent, "one result per task");
    imported
}

/// Imports tasks whose ids are free.
async fn bring(store: &Arc<dyn Store>, tasks: impl IntoIterator<Item = Import>) {
    for imported in import_all(store, tasks.into_iter().collect()).await {
        assert_eq!(imported, Imported::Done);
    }
}

async fn find(store: &Arc<dyn Store>, id: &str) -> Option<TaskInfo> {
    store.tasks(&[task_ref(id)]).await.unwrap().remove(0)
}

async fn info(store: &Arc<dyn Store>, id: &str) -> TaskInfo {
    find(store, id).await.expect("a task")
}

async fn lease(store: &Arc<dyn Store>, max: usize) -> Vec<Leased> {
    let request = LeaseRequest::new(vec![(QUEUE.into(), max)], max, LEASE, "tester".into());
    all_of(store.lease(&request).await).unwrap().concat()
}

async fn forward(store: &Arc<dyn Store>) -> usize {
    let forwarded = all_of(store.forward(&[QUEUE.into()], 100).await).unwrap();
    forwarded[0].moved
}

async fn enqueue(store: &Arc<dyn Store>, task: Envelope) -> bool {
    let task = vec![NewTask::new(task, When::Now)];
    store.enqueue(task).await.unwrap()[0].is_ok()
}

async fn stats(store: &Arc<dyn Store>) -> QueueStats {
    store.stats(&[QUEUE.into()]).await.unwrap().remove(0)
}

fn pending(since: Timestamp) -> TaskPlace {
    TaskPlace::Pending { since }
}

/// One place of each state that every store has.
fn places(now: Timestamp) -> [TaskPlace; 5] {
    let result = Some("done".into());
    [
        pending(now - secs(500)),
        TaskPlace::Scheduled {
            due: now + secs(100),
        },
        TaskPlace::Retry {
            due: now - secs(200),
        },
        TaskPlace::Completed {
            until: now + secs(300),
            result,
        },
        TaskPlace::Archived {
            at: now - secs(400),
        },
    ]
}
