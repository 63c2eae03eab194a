//! The event stream of one viewer.

use std::{convert::Infallible, sync::Arc, time::Duration};

use asynqueue_core::task::{Name, TaskId, TaskRef};
use axum::{
    Extension,
    extract::{Query, State},
    response::sse::{Event, KeepAlive, Sse},
};
use futures_util::{Stream, StreamExt, stream as streams};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Snapshots, Watched};
use crate::web::{Shared, access::SessionEnd, version::version_of_jobs};

#[derive(Debug, Deserialize)]
pub(in crate::web) struct Params {
    /// Seconds between two updates.
    #[serde(default = "one")]
    every: u64,
    /// Whether the page shows the numbers of all queues.
    #[serde(default)]
    all: bool,
    /// Whether the page shows schedules.
    #[serde(default)]
    schedules: bool,
    /// The queue whose numbers and tasks the page shows.
    queue: Option<String>,
    /// The task of the queue that the page shows.
    id: Option<String>,
}

fn one() -> u64 {
    1
}

struct Viewer {
    shared: Arc<Shared>,
    snapshots: Snapshots,
    every: u64,
    all: bool,
    queue: Option<Name>,
    task: Option<Watched>,
    /// Makes the poll read schedules.
    _schedules: Option<Arc<()>>,
    /// The number of the snapshot that was sent last.
    last: u64,
}

pub(in crate::web) async fn stream(
    State(shared): State<Arc<Shared>>,
    session: Option<Extension<SessionEnd>>,
    Query(params): Query<Params>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let id = params.id.and_then(|id| TaskId::new(&id).ok());
    let queue = params.queue.map(Name::from);
    let task = queue.clone().zip(id);
    let task = task.and_then(|(queue, id)| shared.live.watch(TaskRef::new(queue, id)));
    let schedules = params
        .schedules
        .then(|| Arc::clone(&shared.live.schedule_viewers));
    let mut snapshots = shared.live.subscribe();
    snapshots.mark_changed();
    let viewer = Viewer {
        shared,
        snapshots,
        every: params.every.clamp(1, 60),
        all: params.all,
        queue,
        task,
        _schedules: schedules,
        last: 0,
    };
    let events = streams::unfold(viewer, |mut viewer| async {
        let text = viewer.next().await?;
        Some((Ok(Event::default().data(text)), viewer))
    });
    // Other tabs of a browser that logs out stop too.
    let logged_out = async {
        match session {
            Some(Extension(SessionEnd(end))) => end.cancelled_owned().await,
            None => std::future::pending().await,
        }
    };
    let events = events.take_until(Box::pin(logged_out));
    Sse::new(events.fuse()).keep_alive(KeepAlive::default())
}

impl Viewer {
    /// Waits for the next poll. Returns the changes since the last snapshot that was sent, or why the poll failed.
    async fn next(&mut self) -> Option<String> {
        if self.last > 0 && self.every > 1 {
            tokio::time::sleep(Duration::from_secs(self.every - 1)).await;
        }
        let snapshot = loop {
            self.snapshots.changed().await.ok()?;
            let poll = self.snapshots.borrow_and_update().clone();
            if let Some(error) = poll.error {
                return Some(json!({ "error": &*error }).to_string());
            }
            if let Some(snapshot) = poll.snapshot {
                break snapshot;
            }
        };
        let follows = self.last > 0 && snapshot.number == self.last + 1;
        self.last = snapshot.number;
        let mut update = self.figures(match follows {
            true => &snapshot.changes,
            false => &snapshot.all,
        });
        update["age"] = json!(snapshot.at.elapsed().as_millis() as u64);
        let jobs = self.shared.jobs.shown();
        update["jobs"] = jobs.iter().map(|job| job.figures()).collect();
        update["versions"]["jobs"] = version_of_jobs(&jobs).into();
        if let Some(task) = &self.task {
            update["versions"]["task"] = json!(snapshot.tasks.get(&task.task));
        } else if let Some(queue) = &self.queue {
            update["versions"]["tasks"] = json!(snapshot.version_of_tasks(queue));
        }
        Some(update.to_string())
    }

    /// The numbers that the page shows.
    fn figures(&self, all: &Value) -> Value {
        let all = all.as_object().into_iter().flatten();
        let shown = all.map(|(name, figures)| {
            let figures = match &self.queue {
                _ if name != "queues" || self.all => figures.clone(),
                Some(queue) => json!({ queue.as_str(): figures.get(queue.as_str()) }),
                None => json!({}),
            };
            (name.clone(), figures)
        });
        Value::Object(shown.collect())
    }
}
