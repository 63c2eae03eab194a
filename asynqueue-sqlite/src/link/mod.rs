//! The way to the file: one thread that writes, threads that read, and one that moves the log into the file.

mod checkpoint;
mod error;
mod explain;
mod file;
mod log_hook;
mod peers;
mod reader;
mod turn;
mod wake;
mod watch;
mod writer;

use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
};

use asynqueue_core::{
    broker::BrokerError,
    task::{Clock, Timestamp},
};
use parking_lot::Mutex;

pub use self::error::ConnectError;
pub(crate) use self::{
    file::{File, Identity},
    reader::View,
    wake::Announcer,
    watch::Watched,
    writer::{Need, Writing},
};
use self::{reader::Readers, watch::Watch, writer::Writer};
use crate::{SqliteDurability, SqliteOptions, change::Change, schema, sql::Direct, sql::Fault};

/// How many free pages are much: 4 MiB.
const MUCH: i64 = 1_024;

/// How often the file is shortened in one call.
const SHORTENINGS: usize = 25;

/// The threads of one database. They end when it is closed or dropped.
pub(crate) struct Link {
    clock: Arc<dyn Clock>,
    closed: AtomicBool,
    writer: Mutex<Option<Writer>>,
    /// None for a database in memory, which has one connection.
    readers: Mutex<Option<Readers>>,
    /// None until a caller has a transaction of its own.
    watch: Mutex<Option<Watch>>,
    /// For the thread that watches, which may start later.
    alive: Mutex<Option<Alive>>,
    /// Receives nothing, and ends once the file is closed.
    ended: tokio::sync::Mutex<tokio::sync::mpsc::Receiver<Infallible>>,
    pub(crate) announcer: Arc<Announcer>,
    pub(crate) file: Arc<File>,
}

impl Link {
    /// Opens the database and creates its tables. Blocks on the disk.
    pub(crate) fn open(options: &SqliteOptions) -> Result<Self, ConnectError> {
        let (file, mut connection) = File::open(options)?;
        let file = Arc::new(file);
        let is_full = options.durability == SqliteDurability::Full;
        schema::migrate(&file, &mut connection)?;
        let announcer = Arc::new(Announcer::new(file.live_folder()));
        let (alive, others) = mpsc::channel();
        let alive = Alive(alive);
        let (end, ended) = tokio::sync::mpsc::channel(1);
        let readers = match file.path() {
            Some(_) => Some(Readers::start(&file, &options.clock, &alive)?),
            None => None,
        };
        let writing = Writing {
            is_full,
            clock: Arc::clone(&options.clock),
            announcer: Arc::clone(&announcer),
            others,
            end,
        };
        let writer = Writer::start(connection, Arc::clone(&file), writing, alive.clone())?;
        Ok(Self {
            clock: Arc::clone(&options.clock),
            closed: AtomicBool::new(false),
            writer: Mutex::new(Some(writer)),
            readers: Mutex::new(readers),
            watch: Mutex::default(),
            alive: Mutex::new(Some(alive)),
            ended: tokio::sync::Mutex::new(ended),
            announcer,
            file,
        })
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn open_or_closed(&self) -> Result<(), BrokerError> {
        match self.closed.load(SeqCst) {
            false => Ok(()),
            true => Err(BrokerError::Closed),
        }
    }

    /// Makes a change in a transaction, together with others that wait. It is repeated alone if another one fails.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        need: Need,
        call: impl FnMut(&mut Change<Direct<'_>>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, BrokerError> {
        self.open_or_closed()?;
        let response = match &*self.writer.lock() {
            Some(writer) => writer.send(need, call),
            None => return Err(BrokerError::Closed),
        };
        response.await.map_err(|_| BrokerError::Closed)?
    }

    /// Reads, without waiting for changes.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        mut call: impl FnMut(&View<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, BrokerError> {
        self.open_or_closed()?;
        // A database in memory has one connection.
        if self.file.path().is_none() {
            return self
                .write(Need::Nothing, move |change| call(&View::of(change)))
                .await;
        }
        let response = match &*self.readers.lock() {
            Some(readers) => readers.send(call),
            None => return Err(BrokerError::Closed),
        };
        response.await.map_err(|_| BrokerError::Closed)?
    }

    /// Announces what a transaction of a caller has changed, once it is committed.
    pub(crate) fn watch(&self, watched: Watched) -> Result<(), BrokerError> {
        let mut watch = self.watch.lock();
        let thread = match watch.take() {
            Some(thread) => thread,
            None => {
                let alive = self.alive.lock().clone().ok_or(BrokerError::Closed)?;
                Watch::start(&self.file, &self.announcer, alive)?
            }
        };
        thread.add(watched);
        *watch = Some(thread);
        Ok(())
    }

    /// Gives the space of finished tasks back to the disk, if there is much of it: up to 100 MB in one call, in
    /// transactions that are short for others.
    pub(crate) async fn give_space_back(&self) -> Result<(), BrokerError> {
        for _ in 0..SHORTENINGS {
            if !self.shorten().await? {
                break;
            }
        }
        Ok(())
    }

    /// Removes a thousand free pages from the file. Returns whether there may be more to remove.
    async fn shorten(&self) -> Result<bool, BrokerError> {
        if self.file.path().is_none() {
            return Ok(false);
        }
        let read = |view: &View<'_>| {
            let number = |name| {
                view.db
                    .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
            };
            Ok((number("freelist_count")?, number("page_count")?))
        };
        let (free, pages) = self.read(read).await?;
        if free < MUCH || free < pages / 2 {
            return Ok(false);
        }
        let write = |change: &mut Change<Direct<'_>>| {
            let mut vacuum = change
                .sql
                .0
                .prepare_cached("pragma incremental_vacuum(1000)")?;
            let mut rows = vacuum.query([])?;
            while rows.next()?.is_some() {}
            Ok(true)
        };
        self.write(Need::Nothing, write).await
    }

    /// Completes once all changes that wait are made and the file is closed.
    pub(crate) async fn close(&self) {
        self.closed.store(true, SeqCst);
        self.announcer.close();
        drop(self.readers.lock().take());
        drop(self.watch.lock().take());
        drop(self.alive.lock().take());
        drop(self.writer.lock().take());
        // Nothing is sent: this is the end of the writer, which is the last thread.
        self.ended.lock().await.recv().await;
    }
}

/// A thread beside the writer has one until it has closed the file. The writer closes it last: two connections that
/// close it at the same moment would each leave it to the other one to move the log into the file.
#[derive(Clone)]
struct Alive(
    #[expect(dead_code, reason = "dropping it is all that it does")] mpsc::Sender<Infallible>,
);

/// The result of a call. An error if it panics, so that the thread serves other callers.
fn caught<T>(call: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    // What a call has changed is rolled back.
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let text = text.unwrap_or("no message");
        Err(Fault::unexpected(format!("the call panicked: {text}")))
    })
}

impl Drop for Link {
    fn drop(&mut self) {
        self.announcer.close();
    }
}
