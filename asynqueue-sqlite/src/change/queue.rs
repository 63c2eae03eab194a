//! The row of a queue within a transaction.

use asynqueue_core::{
    broker::{ArchiveStats, Counted, HourStats},
    task::{Name, TaskState, Timestamp},
};

use super::Change;
use crate::sql::{Fault, Sql, int, millis, text, timestamp};

/// A queue. Its counts are written once, when the transaction ends.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) id: i64,
    pub(crate) name: Name,
    pub(crate) row: QueueRow,
    stored: QueueRow,
    /// Attempts that ended in this transaction, each with some time of its hour.
    hours: Vec<HourStats>,
    /// When the first scheduled task or retry is due, once it is known.
    pub(crate) next_due: Option<Option<Timestamp>>,
}

/// The columns of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueueRow {
    pub(crate) is_used: bool,
    pub(crate) paused: bool,
    /// By the order of [`COUNTED`].
    pub(crate) counts: [i64; 7],
    pub(crate) succeeded: i64,
    pub(crate) failed: i64,
    pub(crate) lost: i64,
    pub(crate) archive_max: Option<i64>,
    pub(crate) trimmed_by_count: i64,
    pub(crate) trimmed_by_age: i64,
    pub(crate) last_trimmed: Option<i64>,
}

impl QueueRow {
    /// What the archive limits have deleted.
    pub(crate) fn archive(&self) -> ArchiveStats {
        let mut archive = ArchiveStats::default();
        archive.max = self.archive_max.map(|max| max as u64);
        archive.trimmed_by_count = self.trimmed_by_count as u64;
        archive.trimmed_by_age = self.trimmed_by_age as u64;
        archive.last_trimmed = self.last_trimmed.map(timestamp);
        archive
    }

    pub(crate) fn set_archive(&mut self, archive: &ArchiveStats) {
        self.archive_max = archive
            .max
            .map(|max| i64::try_from(max).unwrap_or(i64::MAX));
        self.trimmed_by_count = archive.trimmed_by_count as i64;
        self.trimmed_by_age = archive.trimmed_by_age as i64;
        self.last_trimmed = archive.last_trimmed.map(millis);
    }
}

/// The states that are counted, in the order of the columns.
pub(crate) const COUNTED: [TaskState; 7] = [
    TaskState::Pending,
    TaskState::Scheduled,
    TaskState::Active,
    TaskState::Retry,
    TaskState::Completed,
    TaskState::Archived,
    TaskState::Aggregating,
];

fn column(state: TaskState) -> usize {
    let column = COUNTED.iter().position(|counted| *counted == state);
    column.expect("every stored state is counted")
}

impl Queue {
    pub(crate) fn count(&self, state: TaskState) -> i64 {
        self.row.counts[column(state)]
    }

    /// Counts tasks that enter a state, or leave it.
    pub(crate) fn add(&mut self, state: TaskState, tasks: i64) {
        self.row.counts[column(state)] += tasks;
    }

    /// Counts attempts of an hour.
    pub(crate) fn count_hour(&mut self, hour: HourStats) {
        match self.hours.last_mut() {
            Some(last) if hour_of(last.start) == hour_of(hour.start) => last.add(&hour),
            _ => self.hours.push(hour),
        }
    }

    /// Counts an attempt that has ended.
    pub(crate) fn count_attempt(&mut self, now: Timestamp, counted: Counted) {
        let mut hour = HourStats::new(now, 0, 0);
        let (total, of_hour) = match counted {
            Counted::Succeeded => (&mut self.row.succeeded, &mut hour.succeeded),
            Counted::Failed => (&mut self.row.failed, &mut hour.failed),
            Counted::Lost => (&mut self.row.lost, &mut hour.lost),
        };
        *total += 1;
        *of_hour += 1;
        self.count_hour(hour);
    }
}

const SELECT: &str = "select id, is_used, paused, pending, scheduled, active, retry, completed, archived, aggregating, \
     succeeded, failed, lost, archive_max, trimmed_by_count, trimmed_by_age, last_trimmed \
     from asynqueue_queue where name = ?1";

const UPDATE: &str = "update asynqueue_queue set is_used = ?2, paused = ?3, pending = ?4, scheduled = ?5, active = ?6, \
     retry = ?7, completed = ?8, archived = ?9, aggregating = ?10, succeeded = ?11, failed = ?12, lost = ?13, \
     archive_max = ?14, trimmed_by_count = ?15, trimmed_by_age = ?16, last_trimmed = ?17 where id = ?1";

impl<S: Sql> Change<S> {
    /// The place of a queue in [`queues`](Self::queues). `None` if it does not exist.
    pub(crate) async fn known(&mut self, name: &Name) -> Result<Option<usize>, Fault> {
        if let Some(place) = self.queues.iter().position(|queue| queue.name == *name) {
            return Ok(Some(place));
        }
        let Some(found) = self.sql.row(SELECT, &[text(name)]).await? else {
            return Ok(None);
        };
        let optional = |column| (!found.is_null(column)).then(|| found.int(column));
        let row = QueueRow {
            is_used: found.int(1) != 0,
            paused: found.int(2) != 0,
            counts: std::array::from_fn(|count| found.int(3 + count)),
            succeeded: found.int(10),
            failed: found.int(11),
            lost: found.int(12),
            archive_max: optional(13),
            trimmed_by_count: found.int(14),
            trimmed_by_age: found.int(15),
            last_trimmed: optional(16),
        };
        self.queues.push(Queue {
            id: found.int(0),
            name: name.clone(),
            row,
            stored: row,
            hours: Vec::new(),
            next_due: None,
        });
        Ok(Some(self.queues.len() - 1))
    }

    /// The place of a queue in [`queues`](Self::queues). It is created if it does not exist.
    pub(crate) async fn queue(&mut self, name: &Name) -> Result<usize, Fault> {
        loop {
            if let Some(place) = self.known(name).await? {
                return Ok(place);
            }
            let new = "insert into asynqueue_queue (name) values (?1)";
            self.sql.run(new, &[text(name)]).await?;
        }
    }

    /// When the first scheduled task or retry of a queue is due.
    pub(crate) async fn next_due(&mut self, queue: usize) -> Result<Option<Timestamp>, Fault> {
        if let Some(known) = self.queues[queue].next_due {
            return Ok(known);
        }
        let id = int(self.queues[queue].id);
        let found = self.sql.row(NEXT_DUE, &[id]).await?;
        let next = found
            .filter(|row| !row.is_null(0))
            .map(|row| timestamp(row.int(0)));
        self.queues[queue].next_due = Some(next);
        Ok(next)
    }

    pub(super) async fn write_queue(&mut self, place: usize) -> Result<(), Fault> {
        let queue = &mut self.queues[place];
        let (id, row) = (queue.id, queue.row);
        if row != queue.stored {
            queue.stored = row;
            let optional = |value: Option<i64>| value.map_or(crate::sql::ValueRef::Null, int);
            let mut values = vec![int(id), int(row.is_used.into()), int(row.paused.into())];
            values.extend(row.counts.map(int));
            values.extend([
                int(row.succeeded),
                int(row.failed),
                int(row.lost),
                optional(row.archive_max),
                int(row.trimmed_by_count),
                int(row.trimmed_by_age),
                optional(row.last_trimmed),
            ]);
            self.sql.run(UPDATE, &values).await?;
        }
        for hour in std::mem::take(&mut self.queues[place].hours) {
            let counts = [hour.succeeded, hour.failed, hour.lost];
            let [succeeded, failed, lost] = counts.map(|count| int(count as i64));
            let number = int(hour_of(hour.start));
            let values = [int(id), number, succeeded, failed, lost];
            self.sql.run(ADD_HOUR, &values).await?;
        }
        Ok(())
    }
}

/// When the first scheduled task or retry is due.
pub(crate) const NEXT_DUE: &str = "select min(at) from (\
     select min(at) as at from asynqueue_task where queue = ?1 and state > 2 and state = 3 union all \
     select min(at) from asynqueue_task where queue = ?1 and state > 2 and state = 4)";

/// The number of the hour since 1970.
fn hour_of(time: Timestamp) -> i64 {
    (time.as_millis() / HourStats::MILLIS) as i64
}

const ADD_HOUR: &str = "insert into asynqueue_hour (queue, hour, succeeded, failed, lost) values (?1, ?2, ?3, ?4, ?5) \
     on conflict do update set succeeded = succeeded + excluded.succeeded, failed = failed + excluded.failed, \
     lost = lost + excluded.lost";
