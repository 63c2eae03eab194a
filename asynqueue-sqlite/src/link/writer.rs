//! The thread that writes. It joins all changes that wait into one transaction, and so into one write to the disk.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use asynqueue_core::{
    broker::BrokerError,
    task::{Clock, Timestamp},
};
use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use super::{Alive, Announcer, ConnectError, File, caught, checkpoint::Checkpoints, log_hook};
use crate::{
    change::Change,
    sql::{Direct, Fault, ready},
};

/// The limits of one transaction. Its first caller waits for its end, and so do other processes.
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
    /// Ends once all other threads have closed the file.
    pub(crate) others: mpsc::Receiver<Infallible>,
    /// Dropped once the writer has closed it too.
    pub(crate) end: tokio::sync::mpsc::Sender<Infallible>,
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
}

impl Writer {
    pub(super) fn start(
        mut db: Connection,
        file: Arc<File>,
        writing: Writing,
        alive: Alive,
    ) -> Result<Self, ConnectError> {
        let (jobs, sent) = mpsc::channel();
        // It waits in its own way.
        db.busy_timeout(Duration::ZERO)
            .map_err(|error| file.connect_error(error))?;
        let checkpoints = match file.path() {
            Some(_) => {
                log_hook::attach(&mut db);
                Some(Checkpoints::start(&file, alive)?)
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
                waiting: VecDeque::new(),
            };
            thread.run(&sent);
            thread.close();
        };
        let thread = thread::Builder::new()
            .name("asynqueue-write".into())
            .spawn(run);
        thread.map_err(ConnectError::Thread)?;
        Ok(Self { jobs })
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
}

struct WriterThread {
    db: Connection,
    file: Arc<File>,
    writing: Writing,
    checkpoints: Option<Checkpoints>,
    /// Whether a commit waits for the disk, once that was set.
    synced: Option<bool>,
    /// Changes for the next transaction.
    waiting: VecDeque<Box<dyn Job>>,
}

type Jobs = mpsc::Receiver<Box<dyn Job>>;

impl WriterThread {
    fn run(&mut self, sent: &Jobs) {
        loop {
            if self.waiting.is_empty() {
                let Ok(first) = sent.recv() else { return };
                self.waiting.push_back(first);
            }
            if let Some(checkpoints) = &self.checkpoints {
                checkpoints.move_rest(&self.db);
            }
            self.waiting.extend(sent.try_iter());
            self.join(sent);
            if let Some(checkpoints) = &self.checkpoints {
                checkpoints.note_commit();
            }
        }
    }

    fn close(self) {
        let Self {
            db,
            writing,
            checkpoints,
            ..
        } = self;
        drop(checkpoints);
        // Nothing is sent.
        let _ = writing.others.recv();
        drop(db);
        drop(writing.end);
    }

    /// Makes changes that wait in one transaction.
    fn join(&mut self, sent: &Jobs) {
        // Those that wait already decide together whether the commit waits for the disk.
        let mut first = self.waiting.iter().take(MAX_JOBS);
        let synced = first.any(|job| self.is_synced(job.need()));
        if let Err(error) = self.begin(synced) {
            self.waiting.extend(sent.try_iter());
            let waiting = self.waiting.drain(..);
            return waiting.for_each(|job| job.end(Err(error.clone())));
        }
        let (mut jobs, mut waiting) = (Vec::new(), std::mem::take(&mut self.waiting));
        let made = self.transaction(|thread, change| {
            let started = Instant::now();
            while jobs.is_empty() || (jobs.len() < MAX_JOBS && started.elapsed() < MAX_TIME) {
                let Some(job) = waiting.pop_front().or_else(|| sent.try_recv().ok()) else {
                    break;
                };
                if thread.is_synced(job.need()) && !synced {
                    waiting.push_front(job);
                    break;
                }
                // Kept before it runs: it may panic.
                jobs.push(job);
                if let Some(job) = jobs.last_mut() {
                    thread.run_one(job, change)?;
                }
            }
            Ok(())
        });
        self.waiting = waiting;
        match made {
            Ok(()) => jobs.into_iter().for_each(|job| job.end(Ok(()))),
            Err(fault) if jobs.len() == 1 => {
                let error = self.file.broker_error(fault);
                jobs.into_iter().for_each(|job| job.end(Err(error.clone())));
            }
            // One of them failed, and the others have nothing to do with it.
            Err(_) => self.apart(jobs),
        }
    }

    /// Makes each change in a transaction of its own.
    fn apart(&mut self, jobs: Vec<Box<dyn Job>>) {
        let mut jobs = jobs.into_iter();
        while let Some(mut job) = jobs.next() {
            if let Err(error) = self.begin(self.is_synced(job.need())) {
                job.end(Err(error.clone()));
                return jobs.for_each(|job| job.end(Err(error.clone())));
            }
            let made = self.transaction(|thread, change| thread.run_one(&mut job, change));
            job.end(made.map_err(|fault| self.file.broker_error(fault)));
        }
    }

    fn run_one(
        &self,
        job: &mut Box<dyn Job>,
        change: &mut Change<Direct<'_>>,
    ) -> Result<(), Fault> {
        change.now = self.writing.clock.now();
        job.run(change)
    }

    fn is_synced(&self, need: Need) -> bool {
        match need {
            Need::Nothing => false,
            Need::Own => self.writing.is_full,
            Need::Disk => true,
        }
    }

    /// Starts a transaction. If that fails, it fails for all changes that wait: each would wait as long for it.
    fn begin(&mut self, synced: bool) -> Result<(), BrokerError> {
        self.file.check()?;
        let begun = self
            .set_synced(synced)
            .and_then(|()| self.file.begin(&self.db));
        begun.map_err(|fault| self.file.broker_error(fault))
    }

    /// Runs changes in the transaction that was started, and announces them once it is committed.
    fn transaction(
        &self,
        call: impl FnOnce(&Self, &mut Change<Direct<'_>>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let made = caught(|| {
            let mut change = Change::new(Direct(&self.db), Timestamp::default());
            call(self, &mut change)?;
            ready(change.finish())?;
            self.db.prepare_cached("commit")?.execute([])?;
            Ok(change.events)
        });
        match made {
            Ok(events) => {
                self.writing.announcer.announce(events);
                Ok(())
            }
            Err(fault) => {
                self.roll_back();
                if let (Fault::Sqlite(error), Some(checkpoints)) = (&fault, &self.checkpoints)
                    && error.sqlite_error_code() == Some(ErrorCode::DiskFull)
                {
                    // The next space that is free is for the file. Then the log starts anew and needs no more.
                    checkpoints.request_rest();
                }
                Err(fault)
            }
        }
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
