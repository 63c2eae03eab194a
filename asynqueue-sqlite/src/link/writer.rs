//! The thread that writes. It joins all changes that wait into one transaction, and so into one write to the disk.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use asynqueue_core::{broker::BrokerError, task::Clock};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{Announcer, ConnectError, File, checkpoint::Checkpoints, log_hook};
use crate::{
    change::Change,
    sql::{Direct, Fault, ready},
};

/// The limits of one transaction. Its first caller waits for its end.
const MAX_JOBS: usize = 1_000;
const MAX_TIME: Duration = Duration::from_millis(10);

/// What must hold a change when its call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// The file, also after this process has crashed. For leases, which end with the machine.
    Nothing,
    /// What the durability of the broker demands.
    Own,
    /// The disk.
    Disk,
}

/// What the writer needs besides the connection.
pub(crate) struct Writing {
    pub(crate) is_full: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) announcer: Arc<Announcer>,
}

/// A change that waits for its transaction.
trait Job: Send {
    fn need(&self) -> Need;
    fn run(&mut self, change: &mut Change<Direct<'_>>) -> Result<(), Fault>;
    fn end(self: Box<Self>, result: Result<(), BrokerError>);
}

struct Call<F, T> {
    need: Need,
    call: F,
    output: Option<T>,
    reply: oneshot::Sender<Result<T, BrokerError>>,
}

impl<F, T> Job for Call<F, T>
where
    F: FnMut(&mut Change<Direct<'_>>) -> Result<T, Fault> + Send,
    T: Send,
{
    fn need(&self) -> Need {
        self.need
    }

    fn run(&mut self, change: &mut Change<Direct<'_>>) -> Result<(), Fault> {
        self.output = Some((self.call)(change)?);
        Ok(())
    }

    fn end(self: Box<Self>, result: Result<(), BrokerError>) {
        let Self { output, reply, .. } = *self;
        let output = result.and_then(|()| output.ok_or(BrokerError::Closed));
        // Fails if the caller has stopped waiting.
        let _ = reply.send(output);
    }
}

/// Sends changes to the thread.
pub(super) struct Writer {
    jobs: mpsc::Sender<Box<dyn Job>>,
    ended: oneshot::Receiver<()>,
}

impl Writer {
    pub(super) fn start(
        mut db: Connection,
        file: Arc<File>,
        writing: Writing,
    ) -> Result<Self, ConnectError> {
        let (jobs, waiting) = mpsc::channel();
        let (end, ended) = oneshot::channel();
        let checkpoints = match file.path() {
            Some(_) => {
                log_hook::attach(&mut db);
                Some(Checkpoints::start(&file)?)
            }
            None => None,
        };
        let run = move || {
            let mut thread = WriterThread {
                db,
                file,
                writing,
                checkpoints,
                synced: None,
            };
            thread.run(&waiting);
            drop(thread);
            // Fails if the broker was dropped without being closed.
            let _ = end.send(());
        };
        let thread = thread::Builder::new()
            .name("asynqueue-write".into())
            .spawn(run);
        thread.map_err(ConnectError::Thread)?;
        Ok(Self { jobs, ended })
    }

    pub(super) fn send<T: Send + 'static>(
        &self,
        need: Need,
        call: impl FnMut(&mut Change<Direct<'_>>) -> Result<T, Fault> + Send + 'static,
    ) -> oneshot::Receiver<Result<T, BrokerError>> {
        let (reply, response) = oneshot::channel();
        let job = Call {
            need,
            call,
            output: None,
            reply,
        };
        // Fails once the thread has ended, which the caller sees by its response.
        let _ = self.jobs.send(Box::new(job));
        response
    }

    /// Completes once all changes that wait are made and the file is closed.
    pub(super) fn end(self) -> oneshot::Receiver<()> {
        self.ended
    }
}

struct WriterThread {
    db: Connection,
    file: Arc<File>,
    writing: Writing,
    checkpoints: Option<Checkpoints>,
    /// Whether a commit waits for the disk, once that was set.
    synced: Option<bool>,
}

type Jobs = mpsc::Receiver<Box<dyn Job>>;

impl WriterThread {
    fn run(&mut self, waiting: &Jobs) {
        let mut next = None;
        while let Some(first) = next.take().or_else(|| waiting.recv().ok()) {
            next = self.join(first, waiting);
            if let Some(checkpoints) = &self.checkpoints {
                checkpoints.note_commit();
                if checkpoints.takes_rest() {
                    checkpoints.run(&self.db);
                }
            }
        }
    }

    /// Makes all changes that wait in one transaction. Returns one that needs a transaction of its own.
    fn join(&mut self, first: Box<dyn Job>, waiting: &Jobs) -> Option<Box<dyn Job>> {
        let started = Instant::now();
        // Those that wait already decide together whether the commit waits for the disk.
        let mut jobs = vec![first];
        jobs.extend(waiting.try_iter().take(MAX_JOBS));
        let synced = jobs.iter().any(|job| self.is_synced(job.need()));
        let mut next = None;
        let made = self.transaction(synced, |thread, change| {
            for job in &mut jobs {
                change.now = thread.writing.clock.now();
                job.run(change)?;
            }
            while jobs.len() < MAX_JOBS && started.elapsed() < MAX_TIME {
                let Ok(mut job) = waiting.try_recv() else {
                    break;
                };
                if thread.is_synced(job.need()) && !synced {
                    next = Some(job);
                    break;
                }
                change.now = thread.writing.clock.now();
                let run = job.run(change);
                jobs.push(job);
                run?;
            }
            Ok(())
        });
        match made {
            Ok(()) => jobs.into_iter().for_each(|job| job.end(Ok(()))),
            Err(fault) if jobs.len() == 1 => {
                let error = self.file.broker_error(fault);
                jobs.into_iter().for_each(|job| job.end(Err(error.clone())));
            }
            // One of them failed, and the others have nothing to do with it.
            Err(_) => jobs.into_iter().for_each(|job| self.alone(job)),
        }
        next
    }

    fn alone(&mut self, mut job: Box<dyn Job>) {
        let synced = self.is_synced(job.need());
        let made = self.transaction(synced, |thread, change| {
            change.now = thread.writing.clock.now();
            job.run(change)
        });
        job.end(made.map_err(|fault| self.file.broker_error(fault)));
    }

    fn is_synced(&self, need: Need) -> bool {
        match need {
            Need::Nothing => false,
            Need::Own => self.writing.is_full,
            Need::Disk => true,
        }
    }

    /// Runs changes in a transaction, and announces them once it is committed.
    fn transaction(
        &mut self,
        synced: bool,
        call: impl FnOnce(&Self, &mut Change<Direct<'_>>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.file.check().map_err(Fault::Broker)?;
        self.set_synced(synced)?;
        self.file.begin(&self.db)?;
        let mut change = Change::new(Direct(&self.db), self.writing.clock.now());
        let made = call(self, &mut change)
            .and_then(|()| ready(change.finish()))
            .and_then(|()| Ok(self.db.prepare_cached("commit")?.execute([]).map(drop)?));
        let events = change.events;
        if let Err(fault) = made {
            self.roll_back();
            return Err(fault);
        }
        self.writing.announcer.announce(events);
        Ok(())
    }

    fn roll_back(&self) {
        if self.db.is_autocommit() {
            return;
        }
        if let Err(error) = self.db.execute_batch("rollback") {
            tracing::error!(%error, "cannot roll back a transaction");
        }
    }

    /// Sets whether commits wait for the disk.
    fn set_synced(&mut self, synced: bool) -> Result<(), Fault> {
        if self.file.path().is_some() && self.synced != Some(synced) {
            let sql = match synced {
                true => "pragma synchronous = full",
                false => "pragma synchronous = normal",
            };
            self.db.execute_batch(sql)?;
            self.synced = Some(synced);
        }
        Ok(())
    }
}
