//! The store of the book's chapter "Writing a broker": a table of tasks and a table of documents under one lock. It
//! passes both contract suites and the property model, and its histories are linearizable.
//! `asynqueue/tests/documents.rs` checks that the chapter's code is that of this file.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use asynqueue_conformance::{
    history::{self, Plan},
    property,
    store::StoreHarness,
    suite::Harness,
};
use asynqueue_core::{
    broker::{
        ArchiveStats, BrokerError, Capabilities, Change, Conflict, Counted, Cursor, Document,
        DocumentSwap, DueDocuments, DueGroups, Each, Edit, Edited, Expect, Extended, Finished,
        Forwarded, HourStats, Import, Imported, Keep, Lease, LeaseInfo, LeaseRequest, LeaseToken,
        Leased, Move, NewTask, Outcome, Page, Put, QueueStats, Settled, Settlement, SharedBroker,
        Signal, Signals, Space, Store, Swapped, TaskInfo, TaskPage, TaskPlace, Totals, Trimmed,
        Version, When,
    },
    process::Progress,
    task::{Clock, Envelope, Name, TaskId, TaskRef, TaskState, Timestamp, UniqueKey, UniqueUntil},
    testing::TestClock,
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use parking_lot::{Mutex, MutexGuard};
use proptest::test_runner::{Config, TestRunner};
use tokio::sync::{mpsc, oneshot};

/// Keeps everything under one lock, so every method is one atomic step.
#[derive(Debug, Default)]
struct TableStore {
    clock: TestClock,
    closed: AtomicBool,
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    tasks: BTreeMap<TaskRef, Row>,
    queues: BTreeMap<Name, QueueRow>,
    /// The holder of each unique lock, and when the lock ends.
    locks: HashMap<(Name, UniqueKey), (TaskId, Timestamp)>,
    /// The last tick of each schedule entry that enqueued a task here.
    ticks: HashMap<(Name, Name), Timestamp>,
    documents: BTreeMap<(Space, Name), Document>,
    waiters: HashMap<TaskRef, Vec<oneshot::Sender<Finished>>>,
    listeners: Vec<(Vec<Name>, mpsc::UnboundedSender<Signal>)>,
    /// The source of tokens, versions and turns. It never repeats a number.
    last_number: u64,
}

/// A task, its place, and the version of both.
#[derive(Clone, Debug)]
struct Row {
    envelope: Arc<Envelope>,
    place: Place,
    version: Version,
}

#[derive(Clone, Debug)]
enum Place {
    Pending {
        turn: i64,
        since: Timestamp,
    },
    Scheduled {
        due: Timestamp,
    },
    Retry {
        due: Timestamp,
    },
    Active(Active),
    Completed {
        until: Timestamp,
        result: Option<Bytes>,
    },
    Archived {
        at: Timestamp,
    },
}

#[derive(Clone, Debug)]
struct Active {
    token: LeaseToken,
    until: Timestamp,
    worker: Name,
    progress: Option<Progress>,
    /// The reason, once cancellation was requested.
    cancel: Option<String>,
}

#[derive(Debug, Default)]
struct QueueRow {
    /// Whether the queue has had a task.
    is_used: bool,
    paused: bool,
    succeeded: u64,
    failed: u64,
    lost: u64,
    archive: ArchiveStats,
    /// The statistics of other stores that were added, by their ids.
    absorbed: HashSet<Name>,
    /// By the number of the hour since 1970.
    hours: BTreeMap<u64, HourStats>,
}

impl QueueRow {
    /// Counts an attempt that has ended.
    fn count(&mut self, counted: Counted, now: Timestamp) {
        let hour = now.as_millis() / HourStats::MILLIS;
        let start = Timestamp::from_millis(hour * HourStats::MILLIS);
        let new = || HourStats::new(start, 0, 0);
        let hour = self.hours.entry(hour).or_insert_with(new);
        let (total, of_hour) = match counted {
            Counted::Succeeded => (&mut self.succeeded, &mut hour.succeeded),
            Counted::Failed => (&mut self.failed, &mut hour.failed),
            Counted::Lost => (&mut self.lost, &mut hour.lost),
        };
        *total += 1;
        *of_hour += 1;
    }
}

impl Row {
    fn state(&self) -> TaskState {
        match self.place {
            Place::Pending { .. } => TaskState::Pending,
            Place::Scheduled { .. } => TaskState::Scheduled,
            Place::Retry { .. } => TaskState::Retry,
            Place::Active(_) => TaskState::Active,
            Place::Completed { .. } => TaskState::Completed,
            Place::Archived { .. } => TaskState::Archived,
        }
    }

    /// The time by which lists of its state are sorted.
    fn at(&self) -> Option<Timestamp> {
        match &self.place {
            Place::Pending { .. } => None,
            Place::Scheduled { due } | Place::Retry { due } => Some(*due),
            Place::Active(active) => Some(active.until),
            Place::Completed { until, .. } => Some(*until),
            Place::Archived { at } => Some(*at),
        }
    }

    /// Pending tasks by priority and turn, all others by time.
    fn order(&self) -> (u8, i64, Option<Timestamp>, TaskId) {
        let (priority, turn) = match self.place {
            Place::Pending { turn, .. } => (u8::MAX - self.envelope.options.priority, turn),
            _ => (0, 0),
        };
        (priority, turn, self.at(), self.envelope.id.clone())
    }

    fn info(&self) -> TaskInfo {
        let mut info = TaskInfo::new(Arc::clone(&self.envelope), self.state(), self.version);
        info.at = self.at();
        match &self.place {
            Place::Active(active) => {
                info.at = None;
                info.lease = Some(LeaseInfo::new(active.worker.clone(), active.until));
                info.progress.clone_from(&active.progress);
            }
            Place::Completed { result, .. } => info.result.clone_from(result),
            Place::Pending { since, .. } => info.since = Some(*since),
            _ => {}
        }
        info
    }

    /// What waiters receive, if the task has ended.
    fn end(&self) -> Option<Finished> {
        match &self.place {
            Place::Completed { result, .. } => Some(Finished::Completed {
                result: result.clone(),
                codec: self.envelope.codec.clone(),
            }),
            Place::Archived { .. } => Some(Finished::Archived {
                failure: self.envelope.last_failure().cloned().map(Box::new),
            }),
            _ => None,
        }
    }
}

impl Tables {
    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// The tasks of a queue in one state, in order.
    fn list(&self, queue: &Name, state: TaskState) -> Vec<Row> {
        let rows = self.tasks.values();
        let in_list = |row: &&Row| row.envelope.queue == *queue && row.state() == state;
        let mut rows: Vec<_> = rows.filter(in_list).cloned().collect();
        rows.sort_by_key(Row::order);
        rows
    }

    fn has_pending(&self, queue: &Name) -> bool {
        let is_pending = |row: &Row| matches!(row.place, Place::Pending { .. });
        let mut rows = self.tasks.values();
        rows.any(|row| is_pending(row) && row.envelope.queue == *queue)
    }

    fn next_due(&self, queue: &Name) -> Option<Timestamp> {
        let rows = self.tasks.values();
        let of_queue = rows.filter(|row| row.envelope.queue == *queue);
        let due = |row: &Row| match row.place {
            Place::Scheduled { due } | Place::Retry { due } => Some(due),
            _ => None,
        };
        of_queue.filter_map(due).min()
    }

    /// Puts a task where it goes next, under a new version. Every change of a task ends here.
    fn put(&mut self, envelope: &Arc<Envelope>, place: Place) {
        let (task, queue) = (envelope.task_ref(), &envelope.queue);
        self.tasks.remove(&task);
        let paused = self.queues.get(queue).is_some_and(|queue| queue.paused);
        match place {
            Place::Pending { .. } if !paused && !self.has_pending(queue) => {
                self.signal(queue, &Signal::Pending(queue.clone()));
            }
            Place::Scheduled { due } | Place::Retry { due }
                if self.next_due(queue).is_none_or(|next| due < next) =>
            {
                self.signal(queue, &Signal::Due(queue.clone(), due));
            }
            _ => {}
        }
        let row = Row {
            envelope: Arc::clone(envelope),
            place,
            version: Version(self.number()),
        };
        if let Some(end) = row.end() {
            self.unlock(envelope, false);
            self.notify(&task, &end);
        }
        self.tasks.insert(task, row);
    }

    fn signal(&mut self, queue: &Name, signal: &Signal) {
        self.listeners.retain(|(queues, listener)| {
            !queues.contains(queue) || listener.send(signal.clone()).is_ok()
        });
    }

    fn remove(&mut self, envelope: &Envelope, end: &Finished) {
        self.unlock(envelope, false);
        self.notify(&envelope.task_ref(), end);
        self.tasks.remove(&envelope.task_ref());
    }

    fn notify(&mut self, task: &TaskRef, end: &Finished) {
        for waiter in self.waiters.remove(task).into_iter().flatten() {
            // A waiter that was dropped needs nothing.
            let _ = waiter.send(end.clone());
        }
    }

    /// Behind the pending tasks of the same priority.
    fn back(&mut self, now: Timestamp) -> Place {
        Place::Pending {
            turn: self.number() as i64,
            since: now,
        }
    }

    /// Before the pending tasks of the same priority.
    fn front(&mut self, now: Timestamp) -> Place {
        Place::Pending {
            turn: -(self.number() as i64),
            since: now,
        }
    }

    /// Takes the unique lock of a task. Returns the holder of a lock that is held already.
    fn lock(&mut self, envelope: &Envelope, now: Timestamp) -> Result<(), (UniqueKey, TaskId)> {
        let Some(unique) = &envelope.unique else {
            return Ok(());
        };
        let lock = (envelope.queue.clone(), unique.key.clone());
        match self.locks.get(&lock) {
            Some((holder, until)) if *until > now => Err((lock.1, holder.clone())),
            _ => {
                let held = (envelope.id.clone(), now + unique.ttl);
                self.locks.insert(lock, held);
                Ok(())
            }
        }
    }

    /// Takes the lock again, or keeps it. Returns whether the task holds it.
    fn lock_again(&mut self, envelope: &Envelope, now: Timestamp) -> bool {
        let locked = self.lock(envelope, now);
        locked.map_or_else(|(_, holder)| holder == envelope.id, |()| true)
    }

    /// Releases the unique lock of a task at its start or at its end, unless it has passed to another task.
    fn unlock(&mut self, envelope: &Envelope, at_start: bool) {
        let Some(unique) = &envelope.unique else {
            return;
        };
        let ends = match unique.until {
            UniqueUntil::Start => true,
            UniqueUntil::Success => !at_start,
            _ => false,
        };
        let lock = (envelope.queue.clone(), unique.key.clone());
        let is_holder = |(holder, _): &(TaskId, _)| *holder == envelope.id;
        if ends && self.locks.get(&lock).is_some_and(is_holder) {
            self.locks.remove(&lock);
        }
    }

    fn enqueue(&mut self, task: NewTask, now: Timestamp) -> Result<(), Conflict> {
        let envelope = task.envelope;
        let reference = envelope.task_ref();
        let guard = |guard: &Name| (envelope.queue.clone(), guard.clone());
        if let Some(tick) = &task.tick
            && let Some(last) = self.ticks.get(&guard(&tick.guard))
            && tick.has_fired(*last, now)
        {
            return Err(Conflict::Fired { task: reference });
        }
        if let Some(row) = self.tasks.get(&reference) {
            return Err(Conflict::Id {
                task: reference,
                state: row.state(),
            });
        }
        self.lock(&envelope, now).map_err(|(key, holder)| {
            let row = self
                .tasks
                .get(&TaskRef::new(&envelope.queue, holder.clone()));
            Conflict::Unique {
                key,
                holder,
                state: row.map_or(TaskState::Completed, Row::state),
            }
        })?;
        if let Some(tick) = task.tick {
            self.ticks.insert(guard(&tick.guard), tick.tick);
        }
        let due = match task.when {
            When::Now => now,
            When::After(delay) => now + delay,
            When::At(time) => time,
        };
        let queue = self.queues.entry(envelope.queue.clone()).or_default();
        queue.is_used = true;
        let place = if due > now {
            Place::Scheduled { due }
        } else {
            self.back(now)
        };
        self.put(&Arc::new(envelope), place);
        Ok(())
    }

    fn lease(
        &mut self,
        queue: &Name,
        limit: usize,
        request: &LeaseRequest,
        now: Timestamp,
    ) -> Vec<Leased> {
        if self.queues.get(queue).is_none_or(|queue| queue.paused) {
            return Vec::new();
        }
        let next = self.list(queue, TaskState::Pending);
        let lease = |row: Row| {
            let token = LeaseToken(self.number());
            let mut leased = Leased::new(Arc::clone(&row.envelope), token, now);
            if let Place::Pending { since, .. } = row.place {
                leased.pending_since = Some(since);
            }
            let active = Active {
                token,
                until: now + request.lease,
                worker: request.worker.clone(),
                progress: None,
                cancel: None,
            };
            self.unlock(&row.envelope, true);
            self.put(&row.envelope, Place::Active(active));
            leased
        };
        next.into_iter().take(limit).map(lease).collect()
    }

    /// The lease under a token, if it is current. A lease that has expired stays current until the task is settled.
    fn current(&mut self, lease: &Lease) -> Option<&mut Active> {
        match &mut self.tasks.get_mut(&lease.task)?.place {
            Place::Active(active) if active.token == lease.token => Some(active),
            _ => None,
        }
    }

    fn extend(&mut self, lease: &Lease, until: Timestamp) -> Extended {
        let Some(active) = self.current(lease) else {
            return Extended::Lost;
        };
        active.until = until;
        match active.cancel {
            Some(_) => Extended::CancelRequested,
            None => Extended::Yes,
        }
    }

    fn settle(&mut self, settlement: &Settlement, now: Timestamp) -> Settled {
        let envelope = &settlement.envelope;
        let lease = Lease {
            task: envelope.task_ref(),
            token: settlement.token,
        };
        let Some(active) = self.current(&lease) else {
            return Settled::Stale;
        };
        if settlement.only_if_expired && active.until > now {
            return Settled::Stale;
        }
        let cancel = active.cancel.take();
        let queue = self.queues.entry(envelope.queue.clone()).or_default();
        if let Some(counted) = settlement.counts_as() {
            queue.count(counted, now);
        }
        let place = match (&settlement.outcome, cancel) {
            (Outcome::Complete { result }, _) if envelope.options.retention.is_zero() => {
                let end = Finished::Completed {
                    result: result.clone(),
                    codec: envelope.codec.clone(),
                };
                self.remove(envelope, &end);
                return Settled::Recorded;
            }
            (Outcome::Complete { result }, _) => Place::Completed {
                until: now + envelope.options.retention,
                result: result.clone(),
            },
            (Outcome::Drop, _) => {
                self.remove(envelope, &Finished::Gone);
                return Settled::Recorded;
            }
            (_, Some(reason)) => {
                let cancelled = Arc::new(envelope.cancelled(&reason, now));
                self.put(&cancelled, Place::Archived { at: now });
                return Settled::Cancelled;
            }
            (Outcome::Archive, None) => Place::Archived { at: now },
            (Outcome::Retry { delay } | Outcome::Snooze { delay }, None) if delay.is_zero() => {
                self.back(now)
            }
            (Outcome::Retry { delay }, None) => Place::Retry { due: now + *delay },
            (Outcome::Snooze { delay }, None) => Place::Scheduled { due: now + *delay },
            (Outcome::Release, None) => self.front(now),
        };
        if matches!(
            settlement.outcome,
            Outcome::Snooze { .. } | Outcome::Release
        ) {
            // Only a lock until the start has ended. Where another task holds it, this one waits without it.
            let is_until_start = |unique: &_| matches!(unique, UniqueUntil::Start);
            if envelope
                .unique
                .as_ref()
                .is_some_and(|unique| is_until_start(&unique.until))
            {
                self.lock_again(envelope, now);
            }
        }
        self.put(envelope, place);
        Settled::Recorded
    }

    fn due(&self, queue: &Name) -> Vec<Row> {
        let mut due = self.list(queue, TaskState::Scheduled);
        due.extend(self.list(queue, TaskState::Retry));
        // Stable: at the same time, scheduled tasks come before retries.
        due.sort_by_key(Row::at);
        due
    }

    fn forward(&mut self, queue: &Name, limit: usize, now: Timestamp) -> Forwarded {
        let due = self.due(queue);
        let is_due = |row: &&Row| row.at().is_some_and(|at| at <= now);
        let mut forwarded = Forwarded::default();
        for row in due.iter().take_while(is_due).take(limit) {
            let place = self.back(now);
            self.put(&row.envelope, place);
            forwarded.moved += 1;
        }
        forwarded.next_due = due.get(forwarded.moved).and_then(Row::at);
        forwarded
    }

    fn expired(&self, queue: &Name, by: Timestamp, limit: usize, now: Timestamp) -> Vec<Leased> {
        let active = self.list(queue, TaskState::Active).into_iter();
        let expired = active.filter_map(|row| match row.place {
            Place::Active(active) if active.until <= by.min(now) => {
                Some(Leased::new(row.envelope, active.token, now))
            }
            _ => None,
        });
        expired.take(limit).collect()
    }

    fn trim(&mut self, queue: &Name, keep: Keep, limit: usize, now: Timestamp) -> Trimmed {
        let (completed, archived) = (
            self.list(queue, TaskState::Completed),
            self.list(queue, TaskState::Archived),
        );
        let mut trimmed = Trimmed::default();
        let too_many = archived.len().saturating_sub(keep.archived_max).min(limit);
        trimmed.by_count = too_many;
        let over = |row: &&Row| row.at() <= Some(now);
        let completed: Vec<_> = completed
            .iter()
            .take_while(over)
            .take(limit - too_many)
            .collect();
        trimmed.completed = completed.len();
        let old = |row: &&Row| row.at() <= Some(now - keep.archived_for);
        let old: Vec<_> = archived[too_many..]
            .iter()
            .take_while(old)
            .take(limit - trimmed.deleted())
            .collect();
        trimmed.by_age = old.len();
        for row in archived[..too_many].iter().chain(completed).chain(old) {
            self.tasks.remove(&row.envelope.task_ref());
        }
        trimmed.archived = (archived.len() - trimmed.by_count - trimmed.by_age) as u64;
        if let Some(queue) = self.queues.get_mut(queue) {
            let stats = &mut queue.archive;
            if !archived.is_empty() {
                stats.max = Some(keep.archived_max as u64);
            }
            stats.trimmed_by_count += trimmed.by_count as u64;
            stats.trimmed_by_age += trimmed.by_age as u64;
            if trimmed.by_count + trimmed.by_age > 0 {
                stats.last_trimmed = Some(now);
            }
        }
        self.locks.retain(|_, (_, until)| *until > now);
        trimmed
    }

    fn edit(&mut self, edit: &Edit, now: Timestamp) -> Edited {
        let row = self.tasks.get_mut(&edit.task_ref());
        let Some(row) = row.filter(|row| row.version == edit.seen.version) else {
            return Edited::Changed;
        };
        match (&edit.change, &mut row.place) {
            (Change::Cancel { reason }, Place::Active(active)) => {
                active.cancel.get_or_insert_with(|| reason.clone());
                let task = edit.task_ref();
                self.signal(&task.queue, &Signal::Cancel(task.clone()));
                Edited::Done
            }
            (Change::Cancel { .. }, _) | (_, Place::Active(_)) => Edited::Refused,
            (Change::Delete, _) => {
                let envelope = Arc::clone(&row.envelope);
                self.remove(&envelope, &Finished::Gone);
                Edited::Done
            }
            (Change::Put { .. }, Place::Completed { .. }) => Edited::Refused,
            (Change::Put { envelope, to }, place) => {
                let place = place.clone();
                let leaves_archive = matches!(place, Place::Archived { .. })
                    && !matches!(to, None | Some(Move::Archived));
                if leaves_archive && !self.lock_again(envelope, now) {
                    return Edited::Locked;
                }
                let place = match to {
                    None => place,
                    Some(Move::Archived) => Place::Archived { at: now },
                    Some(Move::Scheduled(due)) if *due > now => Place::Scheduled { due: *due },
                    Some(_) => self.back(now),
                };
                self.put(envelope, place);
                Edited::Done
            }
        }
    }

    fn import(&mut self, import: &Import, now: Timestamp) -> Imported {
        let (envelope, queue) = (&import.envelope, &import.envelope.queue);
        match (self.tasks.get(&import.task_ref()), import.replaces) {
            (None, None) => {}
            (Some(_), None) => return Imported::Exists,
            (Some(row), Some(version)) if row.version == version => {
                if matches!(row.place, Place::Active(_) | Place::Completed { .. }) {
                    return Imported::Changed;
                }
            }
            _ => return Imported::Changed,
        }
        if let Some((key, until)) = import.lock(now) {
            let lock = (queue.clone(), key.clone());
            if self.locks.get(&lock).is_none_or(|(_, until)| *until <= now) {
                self.locks.insert(lock, (envelope.id.clone(), until));
            }
        }
        self.queues.entry(queue.clone()).or_default().is_used = true;
        let place = match import.place.clone() {
            // There are no groups here.
            TaskPlace::Pending { since } | TaskPlace::Aggregating { since, .. } => self.back(since),
            TaskPlace::Scheduled { due } => Place::Scheduled { due },
            TaskPlace::Retry { due } => Place::Retry { due },
            TaskPlace::Completed { until, result } => Place::Completed { until, result },
            TaskPlace::Archived { at } => Place::Archived { at },
        };
        self.put(envelope, place);
        Imported::Done
    }

    fn absorb(&mut self, queue: &Name, id: &Name, totals: &Totals) {
        let queue = self.queues.entry(queue.clone()).or_default();
        queue.absorbed.insert(id.clone());
        queue.is_used = true;
        queue.succeeded += totals.succeeded;
        queue.failed += totals.failed;
        queue.lost += totals.lost;
        queue.archive.absorb(&totals.archive);
        for hour in &totals.hours {
            let number = hour.start.as_millis() / HourStats::MILLIS;
            let new = || HourStats::new(hour.start, 0, 0);
            queue.hours.entry(number).or_insert_with(new).add(hour);
        }
    }

    fn stats(&self, name: &Name, now: Timestamp) -> QueueStats {
        let mut stats = QueueStats::default();
        let Some(queue) = self.queues.get(name) else {
            return stats;
        };
        stats.succeeded = queue.succeeded;
        stats.failed = queue.failed;
        stats.lost = queue.lost;
        stats.paused = queue.paused;
        stats.archive = queue.archive;
        for row in self
            .tasks
            .values()
            .filter(|row| row.envelope.queue == *name)
        {
            *stats.counts.entry(row.state()).or_default() += 1;
        }
        if let Some(Place::Pending { since, .. }) = self
            .list(name, TaskState::Pending)
            .first()
            .map(|row| &row.place)
        {
            stats.latency = now.since(*since);
        }
        stats
    }

    fn delete_queue(&mut self, queue: &Name, force: bool) -> bool {
        let tasks = self.tasks.values();
        let tasks: Vec<_> = tasks
            .filter(|row| row.envelope.queue == *queue)
            .cloned()
            .collect();
        if !tasks.is_empty() && !force {
            return false;
        }
        for row in tasks {
            self.remove(&row.envelope, &Finished::Gone);
        }
        self.locks.retain(|(of, _), _| of != queue);
        self.ticks.retain(|(of, _), _| of != queue);
        self.queues.remove(queue);
        true
    }

    fn swap(&mut self, set: Vec<DocumentSwap>) -> Swapped {
        let mut swapped = Swapped {
            is_done: true,
            kept: Vec::new(),
        };
        for change in &set {
            let found = self.documents.get(&(change.space, change.name.clone()));
            swapped.is_done &= match change.expect {
                Expect::Any => true,
                Expect::Absent => found.is_none(),
                Expect::Version(version) => found.is_some_and(|found| found.version == version),
            };
            if change.put == Put::Keep {
                swapped.kept.push(found.cloned());
            }
        }
        if swapped.is_done {
            for change in set {
                let version = Version(self.number());
                let name = (change.space, change.name);
                match change.put {
                    Put::Keep => {}
                    Put::Remove => drop(self.documents.remove(&name)),
                    Put::Set(bytes, due) => {
                        self.documents.insert(
                            name,
                            Document {
                                bytes,
                                due,
                                version,
                            },
                        );
                    }
                }
            }
        }
        swapped
    }

    fn due_documents(&self, space: Space, limit: usize, now: Timestamp) -> DueDocuments {
        let of_space = self.documents.iter().filter(|((of, _), _)| *of == space);
        let timed =
            of_space.filter_map(|((_, name), document)| Some((document.due?, name, document)));
        let mut timed: Vec<_> = timed.collect();
        timed.sort_by_key(|(due, name, _)| (*due, (*name).clone()));
        let is_due = |(due, ..): &&(Timestamp, &Name, &Document)| *due <= now;
        let found: Vec<_> = timed.iter().take_while(is_due).take(limit).collect();
        DueDocuments {
            next_due: timed.get(found.len()).map(|(due, ..)| *due),
            documents: found
                .iter()
                .map(|(_, name, document)| ((*name).clone(), (*document).clone()))
                .collect(),
            now,
        }
    }
}

impl TableStore {
    /// The tables, unless the store is closed.
    fn open(&self) -> Result<MutexGuard<'_, Tables>, BrokerError> {
        let tables = self.tables.lock();
        if self.closed.load(SeqCst) {
            return Err(BrokerError::Closed);
        }
        Ok(tables)
    }
}

#[async_trait]
impl Store for TableStore {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn enqueue(&self, tasks: Vec<NewTask>) -> Result<Vec<Result<(), Conflict>>, BrokerError> {
        let (mut tables, now) = (self.open()?, self.clock.now());
        Ok(tasks
            .into_iter()
            .map(|task| tables.enqueue(task, now))
            .collect())
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<Each<Vec<Leased>>, BrokerError> {
        let (mut tables, now) = (self.open()?, self.clock.now());
        let mut left = request.max;
        let lease = |(queue, limit): &(Name, usize)| {
            let leased = tables.lease(queue, left.min(*limit), request, now);
            left -= leased.len();
            Ok(leased)
        };
        Ok(request.queues.iter().map(lease).collect())
    }

    async fn extend(
        &self,
        leases: &[Lease],
        lease: Duration,
    ) -> Result<Each<Extended>, BrokerError> {
        let (mut tables, until) = (self.open()?, self.clock.now() + lease);
        Ok(leases
            .iter()
            .map(|lease| Ok(tables.extend(lease, until)))
            .collect())
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Each<Settled>, BrokerError> {
        let (mut tables, now) = (self.open()?, self.clock.now());
        Ok(settlements
            .iter()
            .map(|settlement| Ok(tables.settle(settlement, now)))
            .collect())
    }

    async fn forward(&self, queues: &[Name], limit: usize) -> Result<Each<Forwarded>, BrokerError> {
        let (mut tables, now) = (self.open()?, self.clock.now());
        Ok(queues
            .iter()
            .map(|queue| Ok(tables.forward(queue, limit, now)))
            .collect())
    }

    async fn expired(
        &self,
        queues: &[Name],
        by: Timestamp,
        limit: usize,
    ) -> Result<Each<Vec<Leased>>, BrokerError> {
        let (tables, now) = (self.open()?, self.clock.now());
        Ok(queues
            .iter()
            .map(|queue| Ok(tables.expired(queue, by, limit, now)))
            .collect())
    }

    async fn trim(
        &self,
        queues: &[Name],
        keep: Keep,
        limit: usize,
    ) -> Result<Each<Trimmed>, BrokerError> {
        let (mut tables, now) = (self.open()?, self.clock.now());
        Ok(queues
            .iter()
            .map(|queue| Ok(tables.trim(queue, keep, limit, now)))
            .collect())
    }

    async fn queues(&self) -> Result<Vec<Name>, BrokerError> {
        let tables = self.open()?;
        let used = tables.queues.iter().filter(|(_, queue)| queue.is_used);
        Ok(used.map(|(name, _)| name.clone()).collect())
    }

    async fn stats(&self, queues: &[Name]) -> Result<Vec<QueueStats>, BrokerError> {
        let (tables, now) = (self.open()?, self.clock.now());
        Ok(queues
            .iter()
            .map(|queue| tables.stats(queue, now))
            .collect())
    }

    async fn tasks(&self, tasks: &[TaskRef]) -> Result<Vec<Option<TaskInfo>>, BrokerError> {
        let tables = self.open()?;
        Ok(tasks
            .iter()
            .map(|task| tables.tasks.get(task).map(Row::info))
            .collect())
    }

    async fn list(
        &self,
        queue: &Name,
        state: TaskState,
        page: Page,
    ) -> Result<TaskPage, BrokerError> {
        let mut rows = self.open()?.list(queue, state);
        if state.is_final() != page.reversed {
            rows.reverse();
        }
        // The place of the next task in the list. A list that changes between two pages may repeat or skip tasks.
        let from = page
            .after
            .and_then(|Cursor(place)| place.parse().ok())
            .unwrap_or(0);
        let tasks: Vec<_> = rows
            .iter()
            .skip(from)
            .take(page.limit)
            .map(Row::info)
            .collect();
        let next = from.saturating_add(tasks.len());
        Ok(TaskPage::new(
            tasks,
            (next < rows.len()).then(|| Cursor(next.to_string())),
        ))
    }

    async fn edit(&self, edits: &[Edit]) -> Result<Vec<Edited>, BrokerError> {
        let (mut tables, now) = (self.open()?, self.clock.now());
        Ok(edits.iter().map(|edit| tables.edit(edit, now)).collect())
    }

    async fn set_paused(&self, queues: &[Name], paused: bool) -> Result<(), BrokerError> {
        let mut tables = self.open()?;
        for queue in queues {
            let row = tables.queues.entry(queue.clone()).or_default();
            let resumed = row.paused && !paused;
            row.paused = paused;
            if resumed && tables.has_pending(queue) {
                tables.signal(queue, &Signal::Pending(queue.clone()));
            }
        }
        Ok(())
    }

    async fn delete_queue(&self, queue: &Name, force: bool) -> Result<bool, BrokerError> {
        Ok(self.open()?.delete_queue(queue, force))
    }

    async fn document(
        &self,
        space: Space,
        names: &[Name],
    ) -> Result<Vec<Option<Document>>, BrokerError> {
        let tables = self.open()?;
        let find = |name: &Name| tables.documents.get(&(space, name.clone())).cloned();
        Ok(names.iter().map(find).collect())
    }

    async fn documents(&self, space: Space) -> Result<Vec<(Name, Document)>, BrokerError> {
        let tables = self.open()?;
        let of_space = tables.documents.iter().filter(|((of, _), _)| *of == space);
        Ok(of_space
            .map(|((_, name), document)| (name.clone(), document.clone()))
            .collect())
    }

    async fn swap(&self, sets: Vec<Vec<DocumentSwap>>) -> Result<Vec<Swapped>, BrokerError> {
        let mut tables = self.open()?;
        Ok(sets.into_iter().map(|set| tables.swap(set)).collect())
    }

    async fn due(&self, space: Space, limit: usize) -> Result<DueDocuments, BrokerError> {
        let (tables, now) = (self.open()?, self.clock.now());
        Ok(tables.due_documents(space, limit, now))
    }

    async fn close(&self) {
        self.closed.store(true, SeqCst);
        // Without their senders, streams of signals end and calls of `finished` fail.
        let mut tables = self.tables.lock();
        tables.waiters.clear();
        tables.listeners.clear();
    }

    // The optional methods.

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.signals = true;
        capabilities.progress = true;
        capabilities.history = true;
        capabilities.import = true;
        capabilities
    }

    async fn signals(&self, queues: &[Name]) -> Result<Signals, BrokerError> {
        let (listener, signals) = mpsc::unbounded_channel();
        self.open()?.listeners.push((queues.to_vec(), listener));
        let next = |mut signals: mpsc::UnboundedReceiver<_>| async {
            signals.recv().await.map(|signal| (signal, signals))
        };
        Ok(stream::unfold(signals, next).boxed())
    }

    async fn history(
        &self,
        queues: &[Name],
        since: Timestamp,
    ) -> Result<Vec<Vec<HourStats>>, BrokerError> {
        let (tables, now) = (self.open()?, self.clock.now());
        let hour = |time: Timestamp| time.as_millis() / HourStats::MILLIS;
        let oldest = hour(now).saturating_sub(HourStats::KEPT).max(hour(since));
        let of_queue = |name: &Name| match tables.queues.get(name) {
            Some(queue) => queue.hours.range(oldest..).map(|(_, hour)| *hour).collect(),
            None => Vec::new(),
        };
        Ok(queues.iter().map(of_queue).collect())
    }

    async fn due_groups(&self, _: &[Name], _: &[Name], _: usize) -> Result<DueGroups, BrokerError> {
        // There are none, but a closed store refuses this call too.
        self.open().map(|_| DueGroups::default())
    }

    async fn report(&self, progress: Vec<(Lease, Progress)>) -> Result<(), BrokerError> {
        let mut tables = self.open()?;
        for (lease, progress) in progress {
            if let Some(active) = tables.current(&lease) {
                active.progress = Some(progress);
            }
        }
        Ok(())
    }

    async fn finished(&self, task: &TaskRef) -> Result<Finished, BrokerError> {
        let (waiter, end) = oneshot::channel();
        {
            let mut tables = self.open()?;
            match tables.tasks.get(task).map(Row::end) {
                None => return Ok(Finished::Gone),
                Some(Some(end)) => return Ok(end),
                Some(None) => tables.waiters.entry(task.clone()).or_default().push(waiter),
            }
        }
        end.await.map_err(|_| BrokerError::Closed)
    }

    async fn forget_ticks(&self, guards: &[(Name, Name)]) -> Result<(), BrokerError> {
        let mut tables = self.open()?;
        for guard in guards {
            tables.ticks.remove(guard);
        }
        Ok(())
    }

    async fn import(&self, tasks: Vec<Import>) -> Result<Vec<Imported>, BrokerError> {
        let (mut tables, now) = (self.open()?, self.clock.now());
        Ok(tasks.iter().map(|task| tables.import(task, now)).collect())
    }

    async fn absorb(
        &self,
        queue: &Name,
        id: &Name,
        totals: Option<&Totals>,
    ) -> Result<bool, BrokerError> {
        let mut tables = self.open()?;
        let known = tables.queues.get(queue);
        let is_new = known.is_none_or(|known| !known.absorbed.contains(id));
        if let Some(totals) = totals.filter(|_| is_new) {
            tables.absorb(queue, id, totals);
        }
        Ok(is_new)
    }
}

/// An empty store for each test, whose clock the test moves.
#[derive(Default)]
struct OnTables {
    clock: TestClock,
}

impl OnTables {
    fn empty(&self) -> TableStore {
        TableStore {
            clock: self.clock.clone(),
            ..TableStore::default()
        }
    }
}

#[async_trait]
impl Harness for OnTables {
    async fn broker(&self) -> SharedBroker {
        Arc::new(self.empty())
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    fn offers(&self, concern: &str, test: &str) -> bool {
        // `all_matching_tasks_are_changed` changes tasks of groups among others, and `storage` is about memory. Cursors
        // are numbers, which new tasks change at the end of the list.
        let lacks = [
            "group",
            "parts",
            "all_matching",
            "storage",
            "points",
            "new_tasks_do_not_move",
        ];
        // They are kept as points.
        !matches!(concern, "audit" | "statistics")
            && !lacks
                .iter()
                .any(|lacking| concern.contains(lacking) || test.contains(lacking))
    }
}

#[async_trait]
impl StoreHarness for OnTables {
    async fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.empty())
    }
}

asynqueue_conformance::conformance_suite!(OnTables::default());
asynqueue_conformance::store_suite!(OnTables::default());

#[test]
fn random_operations_leave_the_store_as_they_leave_the_model() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    TestRunner::new(Config::with_cases(64))
        .run(&property::operations(40), |operations| {
            let harness = OnTables::default();
            let broker: SharedBroker = Arc::new(harness.empty());
            let advance = async |by| harness.clock.advance(by);
            runtime.block_on(property::check(&broker, &operations, advance))?;
            Ok(())
        })
        .expect("the store matches the model");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_calls_are_linearizable() {
    for seed in 0..10 {
        let store = Arc::new(OnTables::default().empty());
        let judged = history::check_store(&[store], &Plan::new(seed), &()).await;
        judged.expect("the calls have an order");
    }
}
