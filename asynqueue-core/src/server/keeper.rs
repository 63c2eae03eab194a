//! The server's own thread: what keeps leases, fetches tasks and records outcomes runs where no handler can block it.

use std::{io, sync::Arc, thread};

use futures_util::FutureExt;
use tokio::{sync::oneshot, task::JoinSet};

use super::{ServerError, Shared, panicked, queues::QueueSet};
use crate::ambient;

/// A thread with a runtime of its own. Dropping it ends what runs there at once.
pub(super) struct Keeper {
    ended: oneshot::Receiver<Result<(), ServerError>>,
    /// Dropped to end it.
    _held: oneshot::Sender<()>,
}

impl Keeper {
    /// Starts the thread. In a simulation there is only one, and what runs there takes turns with the handlers.
    pub(super) fn start(shared: Arc<Shared>, queues: QueueSet) -> io::Result<Self> {
        let (held, let_go) = oneshot::channel::<()>();
        let (end, ended) = oneshot::channel();
        let kept = async move {
            tokio::select! {
                kept = keep(shared, queues) => {
                    // Without a receiver, the server was dropped meanwhile.
                    let _ = end.send(kept);
                }
                _ = let_go => {}
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
        // A subscriber that is set for the caller's thread alone sees this thread too.
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
                message: "the server's own thread ended unexpectedly".into(),
            }),
        }
    }
}

/// Runs the server's parts until it is stopped, then winds down.
async fn keep(shared: Arc<Shared>, queues: QueueSet) -> Result<(), ServerError> {
    let mut upkeep = JoinSet::new();
    let parts: [fn(Arc<Shared>) -> Part; 10] = [
        |shared| shared.settle_outcomes().boxed(),
        |shared| shared.extend_leases().boxed(),
        |shared| shared.watch_slots().boxed(),
        |shared| shared.report_progress().boxed(),
        |shared| shared.forward_due().boxed(),
        |shared| shared.reclaim_lost().boxed(),
        |shared| shared.trim_old().boxed(),
        |shared| shared.tell_of_itself().boxed(),
        |shared| shared.keep_subscribed().boxed(),
        |shared| shared.hear_quiet().boxed(),
    ];
    for part in parts {
        upkeep.spawn(ambient::here(part(Arc::clone(&shared))));
    }
    let fetching = ambient::here(Arc::clone(&shared).fetch(queues));
    let mut fetching = tokio::spawn(fetching);
    // Without one of its parts a server would look alive, and run or record nothing.
    let mut panic = None;
    tokio::select! {
        () = shared.stopping.cancelled() => {}
        error = panicked(&mut upkeep) => panic = Some(error),
    }
    shared.stopping.cancel();
    shared.give_back_waiting();
    // A lease call under way is waited for, however short the shutdown timeout: what it leases must be released.
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
        () = async { while upkeep.join_next().await.is_some() {} } => {}
        () = shared.last_calls() => {}
    }
    match (panic, fetched) {
        (Some(error), _) | (None, Some(Err(error))) => Err(ServerError::panicked(&error)),
        (None, Some(Ok(fetched))) => fetched.map_err(ServerError::Broker),
        // It was still leasing when its time was up.
        (None, None) => Ok(()),
    }
}

type Part = futures_util::future::BoxFuture<'static, ()>;
