//! Figures that change while one looks: server-sent events, a second apart.
//!
//! The broker is asked once a second, however many look, and not at all while nobody does.

use std::{convert::Infallible, sync::Arc, time::Duration};

use asynqueue_core::{Inspector, TaskState};
use axum::{
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use futures_util::{Stream, StreamExt, stream};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Shared, show};

const INTERVAL: Duration = Duration::from_secs(1);

/// What all viewers are told.
pub(super) struct Live {
    inspector: Inspector,
    /// What was seen last; there only while someone looks.
    seen: Arc<Mutex<Option<watch::Receiver<String>>>>,
}

impl Live {
    pub(super) fn new(inspector: Inspector) -> Self {
        Self {
            inspector,
            seen: Arc::default(),
        }
    }

    /// What is seen from now on. The first who looks lets it be looked at.
    fn look(&self) -> watch::Receiver<String> {
        let mut seen = self.seen.lock();
        if let Some(seen) = &*seen {
            return seen.clone();
        }
        let (tell, told) = watch::channel(String::new());
        *seen = Some(told.clone());
        let (inspector, seen) = (self.inspector.clone(), Arc::clone(&self.seen));
        tokio::spawn(async move {
            loop {
                // What cannot be read now is read in a second; the figures stand still meanwhile.
                if let Ok(figures) = figures(&inspector).await {
                    tell.send_replace(figures.to_string());
                }
                tokio::time::sleep(INTERVAL).await;
                let mut seen = seen.lock();
                // One is kept in `seen`.
                if tell.receiver_count() <= 1 {
                    *seen = None;
                    return;
                }
            }
        });
        told
    }
}

/// The figures of every queue, as they are written on pages.
async fn figures(inspector: &Inspector) -> Result<Value, asynqueue_core::BrokerError> {
    let (queues, servers) = tokio::join!(inspector.queues(), inspector.servers());
    let (queues, servers) = (queues?, servers?);
    let of_queue = |queue: asynqueue_core::inspector::QueueInfo| {
        let mut figures = serde_json::Map::new();
        for state in TaskState::ALL {
            figures.insert(
                state.as_str().into(),
                show::number(queue.stats.count(state)).into(),
            );
        }
        figures.insert("latency".into(), show::duration(queue.stats.latency).into());
        figures.insert(
            "succeeded".into(),
            show::number(queue.today.succeeded).into(),
        );
        figures.insert("failed".into(), show::number(queue.today.failed).into());
        (queue.name.to_string(), Value::Object(figures))
    };
    let busy: usize = servers.iter().map(|server| server.busy).sum();
    let slots: usize = servers.iter().map(|server| server.concurrency).sum();
    let queues: serde_json::Map<_, _> = queues.into_iter().map(of_queue).collect();
    Ok(json!({
        "queues": queues,
        "servers": { "count": servers.len().to_string(), "busy": busy.to_string(), "slots": slots.to_string() },
    }))
}

pub(super) async fn stream(
    State(shared): State<Arc<Shared>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let mut seen = shared.live.look();
    seen.mark_changed();
    let events = stream::unfold(seen, |mut seen| async {
        seen.changed().await.ok()?;
        let figures = seen.borrow_and_update().clone();
        Some((figures, seen))
    });
    let events = events.filter(|figures| std::future::ready(!figures.is_empty()));
    let events = events.map(|figures| Ok(Event::default().data(figures)));
    Sse::new(events).keep_alive(KeepAlive::default())
}
