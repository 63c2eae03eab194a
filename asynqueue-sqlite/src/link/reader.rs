//! The threads that read.

use std::{
    sync::{Arc, mpsc},
    thread,
};

use asynqueue_core::{
    broker::BrokerError,
    task::{Clock, Timestamp},
};
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{Alive, ConnectError, File, caught};
use crate::{
    change::Change,
    sql::{Direct, Fault},
};

/// How many threads read. A long list on one of them does not delay a server's upkeep on the other.
const THREADS: usize = 2;

/// The tables, to be read.
pub(crate) struct View<'c> {
    pub(crate) db: &'c Connection,
    pub(crate) now: Timestamp,
}

impl<'c> View<'c> {
    /// What a transaction sees.
    pub(crate) fn of(change: &Change<Direct<'c>>) -> Self {
        Self {
            db: change.sql.0,
            now: change.now,
        }
    }
}

type Job = Box<dyn FnOnce(Result<&View<'_>, BrokerError>, &File) + Send>;

pub(super) struct Readers(mpsc::Sender<Job>);

impl Readers {
    pub(super) fn start(
        file: &Arc<File>,
        clock: &Arc<dyn Clock>,
        alive: &Alive,
    ) -> Result<Self, ConnectError> {
        let (jobs, waiting) = mpsc::channel::<Job>();
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..THREADS {
            let (file, clock, waiting, alive) = (
                Arc::clone(file),
                Arc::clone(clock),
                Arc::clone(&waiting),
                alive.clone(),
            );
            let db = file.connect()?;
            db.pragma_update(None, "query_only", true)
                .map_err(|error| file.connect_error(error))?;
            let run = move || {
                loop {
                    let Ok(job) = waiting.lock().recv() else {
                        break;
                    };
                    serve(&db, job, &file, &*clock);
                }
                drop(db);
                drop(alive);
            };
            let thread = thread::Builder::new()
                .name("asynqueue-read".into())
                .spawn(run);
            thread.map_err(ConnectError::Thread)?;
        }
        Ok(Self(jobs))
    }

    pub(super) fn send<T: Send + 'static>(
        &self,
        mut call: impl FnMut(&View<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> oneshot::Receiver<Result<T, BrokerError>> {
        let (reply, response) = oneshot::channel();
        let job = move |view: Result<&View<'_>, BrokerError>, file: &File| {
            let result = view.and_then(|view| {
                let result = caught(|| call(view));
                result.map_err(|fault| file.broker_error(fault))
            });
            // Fails if the caller has stopped waiting.
            let _ = reply.send(result);
        };
        // Fails once the threads have ended, which the caller sees by its response.
        let _ = self.0.send(Box::new(job));
        response
    }
}

/// Reads in one transaction, so that all of it is from one moment.
fn serve(db: &Connection, job: Job, file: &File, clock: &dyn Clock) {
    let begin = || {
        file.check().map_err(Fault::Broker)?;
        db.prepare_cached("begin")?.execute([])?;
        let now = clock.now();
        Ok(View { db, now })
    };
    match caught(begin) {
        Ok(view) => job(Ok(&view), file),
        Err(fault) => job(Err(file.broker_error(fault)), file),
    }
    if !db.is_autocommit() {
        let ended = db
            .prepare_cached("rollback")
            .and_then(|mut end| end.execute([]));
        if let Err(error) = ended {
            tracing::warn!(%error, "cannot end a read transaction");
        }
    }
}
