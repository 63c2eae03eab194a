//! What one viewer is told.

use std::{convert::Infallible, sync::Arc, time::Duration};

use asynqueue_core::task::{Name, TaskId, TaskRef};
use axum::{
    extract::{Query, State},
    response::sse::{Event, KeepAlive, Sse},
};
use futures_util::{Stream, StreamExt, stream as streams};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Told, Watched};
use crate::web::{Shared, version::version_of_jobs};

#[derive(Debug, Deserialize)]
pub(in crate::web) struct Asked {
    /// Seconds between two looks.
    #[serde(default = "one")]
    every: u64,
    /// Whether the figures of all queues are shown.
    #[serde(default)]
    all: bool,
    /// Whether schedules are shown.
    #[serde(default)]
    schedules: bool,
    /// The queue whose figures and tasks are shown.
    queue: Option<String>,
    /// The task of it that is shown.
    id: Option<String>,
}

fn one() -> u64 {
    1
}

struct Viewer {
    shared: Arc<Shared>,
    told: Told,
    every: u64,
    all: bool,
    queue: Option<Name>,
    task: Option<Watched>,
    /// Lets schedules be looked at.
    _schedules: Option<Arc<()>>,
    /// The number of the look that was told last.
    last: u64,
}

pub(in crate::web) async fn stream(
    State(shared): State<Arc<Shared>>,
    Query(asked): Query<Asked>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let id = asked.id.and_then(|id| TaskId::new(&id).ok());
    let queue = asked.queue.map(Name::from);
    let task = queue.clone().zip(id);
    let task = task.and_then(|(queue, id)| shared.live.watch(TaskRef::new(queue, id)));
    let schedules = asked
        .schedules
        .then(|| Arc::clone(&shared.live.of_schedules));
    let mut told = shared.live.look();
    told.mark_changed();
    let viewer = Viewer {
        shared,
        told,
        every: asked.every.clamp(1, 60),
        all: asked.all,
        queue,
        task,
        _schedules: schedules,
        last: 0,
    };
    let events = streams::unfold(viewer, |mut viewer| async {
        let text = viewer.next().await?;
        Some((Ok(Event::default().data(text)), viewer))
    });
    Sse::new(events.fuse()).keep_alive(KeepAlive::default())
}

impl Viewer {
    /// Waits for the next look, and tells what has changed since the last that was told.
    async fn next(&mut self) -> Option<String> {
        if self.last > 0 && self.every > 1 {
            tokio::time::sleep(Duration::from_secs(self.every - 1)).await;
        }
        let seen = loop {
            self.told.changed().await.ok()?;
            let seen = self.told.borrow_and_update().clone();
            if let Some(seen) = seen {
                break seen;
            }
        };
        let follows = self.last > 0 && seen.number == self.last + 1;
        self.last = seen.number;
        let mut told = self.figures(if follows { &seen.changes } else { &seen.all });
        let jobs = self.shared.jobs.shown();
        told["jobs"] = jobs.iter().map(|job| job.figures()).collect();
        told["versions"]["jobs"] = version_of_jobs(&jobs).into();
        if let Some(task) = &self.task {
            told["versions"]["task"] = json!(seen.tasks.get(&task.task));
        } else if let Some(queue) = &self.queue {
            told["versions"]["tasks"] = json!(seen.version_of_tasks(queue));
        }
        Some(told.to_string())
    }

    /// Those of the figures that are shown.
    fn figures(&self, told: &Value) -> Value {
        let told = told.as_object().into_iter().flatten();
        let shown = told.map(|(name, figures)| {
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
