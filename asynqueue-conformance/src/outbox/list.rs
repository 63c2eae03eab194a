//! An outbox in memory, for tests of relays.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use asynqueue_core::{
    broker::NewTask,
    outbox::{
        Done, Entry, FailedEntry, Outbox, OutboxError, OutboxSize, StoredTask, Take, Taken, Which,
        next_number,
    },
    task::{Clock, Name, SystemClock, Timestamp},
};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// An outbox in memory. Clones share it. It is the shortest correct one, and an example for others.
#[derive(Clone, Debug)]
pub struct ListOutbox {
    name: Name,
    clock: Arc<dyn Clock>,
    list: Arc<Mutex<List>>,
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct List {
    id: Name,
    last_place: u64,
    last_number: u64,
    /// The relay that has the turn, and the end of its turn.
    turn: Option<(Name, Timestamp)>,
    /// In the order of the commits.
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Row {
    place: u64,
    number: Option<u64>,
    at: Timestamp,
    failure: Option<String>,
    task: StoredTask,
}

impl Default for ListOutbox {
    fn default() -> Self {
        Self::with_clock(SystemClock)
    }
}

impl ListOutbox {
    /// An empty outbox with this clock.
    pub fn with_clock(clock: impl Clock) -> Self {
        static CREATED: AtomicU64 = AtomicU64::new(0);
        let list = List {
            id: format!("list-{}", CREATED.fetch_add(1, SeqCst)).into(),
            last_place: 0,
            last_number: 0,
            turn: None,
            rows: Vec::new(),
        };
        Self {
            name: "list".into(),
            clock: Arc::new(clock),
            list: Arc::new(Mutex::new(list)),
            changed: Arc::default(),
        }
    }

    /// Adds tasks in one step.
    pub fn commit(&self, tasks: impl IntoIterator<Item = NewTask>) {
        self.commit_rows(tasks.into_iter().map(|task| StoredTask::of(&task)));
    }

    /// Adds rows in one step, which may be undecodable.
    pub fn commit_rows(&self, tasks: impl IntoIterator<Item = StoredTask>) {
        let mut list = self.list.lock();
        for task in tasks {
            list.last_place += 1;
            let row = Row {
                place: list.last_place,
                number: None,
                at: self.clock.now(),
                failure: None,
                task,
            };
            list.rows.push(row);
        }
        drop(list);
        self.changed.notify_waiters();
    }

    /// A copy as of now, under the same id: what a backup contains.
    #[must_use]
    pub fn backup(&self) -> Self {
        let list = self.list.lock();
        let copy = List {
            id: list.id.clone(),
            rows: list.rows.clone(),
            turn: None,
            ..*list
        };
        Self {
            list: Arc::new(Mutex::new(copy)),
            changed: Arc::default(),
            ..self.clone()
        }
    }
}

impl List {
    fn is_busy(&self, take: &Take<'_>, now: Timestamp) -> bool {
        let other = self.turn.as_ref().filter(|(relay, _)| relay != take.relay);
        other.is_some_and(|(_, until)| *until > now && *until <= now + take.turn)
    }

    fn failed<'l>(&'l mut self, which: Which<'l>) -> impl Iterator<Item = &'l mut Row> {
        let rows = self.rows.iter_mut().filter(|row| row.failure.is_some());
        rows.filter(move |row| match which {
            Which::All => true,
            Which::These(places) => places.contains(&row.place),
        })
    }
}

#[async_trait]
impl Outbox for ListOutbox {
    fn name(&self) -> &Name {
        &self.name
    }

    async fn take(&self, take: &Take<'_>) -> Result<Taken, OutboxError> {
        let (mut list, now) = (self.list.lock(), self.clock.now());
        if list.is_busy(take, now) {
            return Ok(Taken::Busy);
        }
        let is_new = list
            .turn
            .as_ref()
            .is_none_or(|(relay, _)| relay != take.relay);
        list.turn = Some((take.relay.clone(), now + take.turn));
        let is_open = |row: &&mut Row| !take.except.iter().any(|queue| **queue == *row.task.queue);
        let (outbox, mut last, mut bytes) = (list.id.clone(), list.last_number, 0);
        let waiting = list.rows.iter_mut().filter(|row| row.failure.is_none());
        let mut next: Vec<_> = waiting.filter(is_open).collect();
        // Stable: those without a number stay in the order of their commits.
        next.sort_by_key(|row| row.number.unwrap_or(u64::MAX));
        let mut entries = Vec::new();
        let mut more = false;
        for row in next {
            bytes += row.task.envelope.len();
            more = entries.len() == take.limit || (bytes > take.bytes && !entries.is_empty());
            if more {
                break;
            }
            let was_sent = row.number.is_some();
            let number = *row.number.get_or_insert_with(|| {
                last = next_number(last, row.at);
                last
            });
            entries.push(Entry {
                place: row.place,
                number,
                was_sent,
                task: row.task.clone(),
            });
        }
        list.last_number = last;
        Ok(Taken::Turn {
            outbox,
            is_new,
            entries,
            more,
        })
    }

    async fn finish(&self, relay: &Name, done: &[Done]) -> Result<bool, OutboxError> {
        let mut list = self.list.lock();
        if list.turn.as_ref().is_none_or(|(other, _)| other != relay) {
            return Ok(false);
        }
        for done in done {
            match done {
                Done::Remove(place) => list.rows.retain(|row| row.place != *place),
                Done::Fail(place, reason) => {
                    let mut rows = list.rows.iter_mut();
                    if let Some(row) = rows.find(|row| row.place == *place) {
                        row.failure = Some(reason.clone());
                    }
                }
            }
        }
        Ok(true)
    }

    async fn leave(&self, relay: &Name) -> Result<(), OutboxError> {
        let turn = &mut self.list.lock().turn;
        turn.take_if(|(other, _)| other == relay);
        Ok(())
    }

    async fn size(&self) -> Result<OutboxSize, OutboxError> {
        let list = self.list.lock();
        let waiting = || list.rows.iter().filter(|row| row.failure.is_none());
        Ok(OutboxSize {
            waiting: waiting().count() as u64,
            oldest: waiting().map(|row| row.at).min(),
            now: self.clock.now(),
            failed: (list.rows.len() - waiting().count()) as u64,
        })
    }

    async fn failed(&self, after: u64, limit: usize) -> Result<Vec<FailedEntry>, OutboxError> {
        let list = self.list.lock();
        let failed = list.rows.iter().filter(|row| row.place > after);
        let failed = failed.filter_map(|row| {
            Some(FailedEntry {
                place: row.place,
                queue: row.task.queue.as_str().into(),
                id: row.task.id.clone(),
                event: row.task.event.as_str().into(),
                at: row.at,
                reason: row.failure.clone()?,
            })
        });
        Ok(failed.take(limit).collect())
    }

    async fn retry(&self, which: Which<'_>) -> Result<u64, OutboxError> {
        let (mut list, now) = (self.list.lock(), self.clock.now());
        let retried = list.failed(which).map(|row| {
            row.failure = None;
            row.number = None;
            row.at = now;
        });
        let retried = retried.count() as u64;
        drop(list);
        self.changed.notify_waiters();
        Ok(retried)
    }

    async fn delete(&self, which: Which<'_>) -> Result<u64, OutboxError> {
        let mut list = self.list.lock();
        let places: Vec<u64> = list.failed(which).map(|row| row.place).collect();
        list.rows.retain(|row| !places.contains(&row.place));
        Ok(places.len() as u64)
    }

    async fn changed(&self) {
        // What was committed before this call is found by polling.
        let _ = tokio::time::timeout(Duration::from_millis(50), self.changed.notified()).await;
    }
}

impl From<ListOutbox> for Arc<dyn Outbox> {
    fn from(outbox: ListOutbox) -> Self {
        Arc::new(outbox)
    }
}
