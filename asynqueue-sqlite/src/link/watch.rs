//! Notices the commits of the caller's own transactions, which happen on connections that this crate does not see.
//!
//! Such a transaction draws numbers, and nobody else can draw any until it has ended. Once the stored number is as high,
//! it was committed. If it was rolled back and others have drawn the numbers, servers look for tasks once in vain.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use asynqueue_core::broker::BrokerError;
use rusqlite::Connection;

use super::{Alive, Announcer, File};
use crate::change::Event;

/// How long a transaction is watched. A server finds the tasks of a longer one by polling.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the number is read, at first and later.
const OFTEN: Duration = Duration::from_millis(1);
const LATER: Duration = Duration::from_millis(10);
const FIRST: Duration = Duration::from_secs(1);

/// What to announce once a transaction is committed.
pub(crate) struct Watched {
    /// The last number that it has drawn.
    number: i64,
    events: Vec<Event>,
    since: Instant,
}

impl Watched {
    pub(crate) fn new(number: i64, events: Vec<Event>) -> Self {
        Self {
            number,
            events,
            since: Instant::now(),
        }
    }
}

/// The thread that watches. It ends when this is dropped.
pub(super) struct Watch(mpsc::Sender<Watched>);

impl Watch {
    pub(super) fn start(
        file: &Arc<File>,
        announcer: &Arc<Announcer>,
        alive: Alive,
    ) -> Result<Self, BrokerError> {
        let failed = |error: &dyn std::fmt::Display| {
            BrokerError::unavailable(format!("cannot watch transactions: {error}"))
        };
        let db = file.connect().map_err(|error| failed(&error))?;
        let (watched, received) = mpsc::channel();
        let announcer = Arc::clone(announcer);
        let run = move || {
            watch(&db, &received, &announcer);
            drop(db);
            drop(alive);
        };
        let thread = thread::Builder::new()
            .name("asynqueue-watch".into())
            .spawn(run);
        thread.map_err(|error| failed(&error))?;
        Ok(Self(watched))
    }

    pub(super) fn add(&self, watched: Watched) {
        // Fails if the thread has ended: servers find the tasks by polling.
        let _ = self.0.send(watched);
    }
}

fn watch(db: &Connection, received: &mpsc::Receiver<Watched>, announcer: &Announcer) {
    let mut open: Vec<Watched> = Vec::new();
    loop {
        let next = if open.is_empty() {
            received
                .recv()
                .map_err(|_| mpsc::RecvTimeoutError::Disconnected)
        } else {
            let is_new = open.iter().any(|one| one.since.elapsed() < FIRST);
            received.recv_timeout(if is_new { OFTEN } else { LATER })
        };
        match next {
            Ok(watched) => open.push(watched),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
        let stored = db.prepare_cached("select number from asynqueue_meta");
        let stored = stored.and_then(|mut stored| stored.query_row([], |row| row.get::<_, i64>(0)));
        let Ok(stored) = stored else { continue };
        let (committed, rest) = open.into_iter().partition(|one| one.number <= stored);
        open = rest;
        open.retain(|one| one.since.elapsed() < PATIENCE);
        let events: Vec<Watched> = committed;
        announcer.announce(events.into_iter().flat_map(|one| one.events).collect());
    }
}
