//! The server's internal thread: extends leases, fetches tasks and records outcomes where no handler can block it.

use std::{io, sync::Arc, thread};

use futures_util::FutureExt;
use tokio::{sync::oneshot, task::JoinSet};

use super::{ServerError, Shared, panicked, queues::QueueSet};
use crate::ambient;

/// A thread with its own runtime. Dropping this stops it immediately.
pub(super) struct Keeper {
    ended: oneshot::Receiver<Result<(), ServerError>>,
    /// Dropped to stop the thread.
    _held: oneshot::Sender<()>,
}

impl Keeper {
    /// Starts the thread. A simulation has only one thread, shared with the handlers.
    pub(super) fn start(shared: Arc<Shared>, queues: QueueSet) -> io::Result<Self> {
        let (held, dropped) = oneshot::channel::<()>();
        let (end, ended) = oneshot::channel();
        let kept = async move {
            tokio::select! {
                kept = keep(shared, queues) => {
                    // There is no receiver if the server was dropped.
                    let _ = end.send(kept);
                }
                _ = dropped => {}
            }
        };
        let keeper = Self { ended, _held: held };
        if ambient::is_simulated() {
            tokio::spawn(ambient::here(kept));
            return Ok(keeper);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        // A tracing subscriber set only for the caller's thread also applies to this one.
        let log = tracing::dispatcher::get_default(Clone::clone);
        thread::Builder::new()
            .name("asynqueue-server".into())
            .spawn(move || {
                tracing::dispatcher::with_default(&log, || {
                    runtime.block_on(kept);
                });
            })?;
        Ok(keeper)
    }

    /// Waits until the server has stopped.
    pub(super) async fn ended(&mut self) -> Result<(), ServerError> {
        match (&mut self.ended).await {
            Ok(ended) => ended,
            Err(_) => Err(ServerError::Panicked {
                message: "the server's internal thread ended unexpectedly".into(),
            }),
        }
    }
}

/// Runs the parts of the server until it is stopped, then winds down.
async fn keep(shared: Arc<Shared>, queues: QueueSet) -> Result<(), ServerError> {
    let mut upkeep = JoinSet::new();
    let parts: [fn(Arc<Shared>) -> Part; 12] = [
        |shared| shared.settle_outcomes().boxed(),
        |shared| shared.extend_leases().boxed(),
        |shared| shared.watch_slots().boxed(),
        |shared| shared.report_progress().boxed(),
        |shared| shared.forward_due().boxed(),
        |shared| shared.reclaim_lost().boxed(),
        |shared| shared.trim_old().boxed(),
        |shared| shared.report_presence().boxed(),
        |shared| shared.report_statistics().boxed(),
        |shared| shared.report_version().boxed(),
        |shared| shared.keep_subscribed().boxed(),
        |shared| shared.watch_quiet_signals().boxed(),
    ];
    for part in parts {
        upkeep.spawn(ambient::here(part(Arc::clone(&shared))));
    }
    let fetching = ambient::here(Arc::clone(&shared).fetch(queues));
    let mut fetching = tokio::spawn(fetching);
    // Without one of its parts a server would look alive but run or record nothing.
    let mut panic = None;
    tokio::select! {
        () = shared.stopping.cancelled() => {}
        error = panicked(&mut upkeep) => panic = Some(error),
    }
    shared.stopping.cancel();
    shared.release_waiting();
    // Wait for a lease call under way, however short the shutdown timeout: the tasks it leases must be released.
    let last_lease = async {
        tokio::select! {
            fetched = &mut fetching => Some(fetched),
            () = shared.last_calls() => None,
        }
    };
    let (fetched, ()) = tokio::join!(last_lease, shared.wind_down());
    fetching.abort();
    shared.stopped.cancel();
    tokio::select! {
        () = async {
            while upkeep.join_next().await.is_some() {}
            // After the last outcome was recorded.
            shared.report_last_statistics().await;
        } => {}
        () = shared.last_calls() => {}
    }
    match (panic, fetched) {
        (Some(error), _) | (None, Some(Err(error))) => Err(ServerError::panicked(&error)),
        (None, Some(Ok(fetched))) => fetched.map_err(ServerError::Broker),
        // A lease call was still under way when the time was up.
        (None, None) => Ok(()),
    }
}

type Part = futures_util::future::BoxFuture<'static, ()>;
