//! Tasks as their rows have them.

use std::time::Duration;

pub(super) use asynqueue_core::broker::kit::{Read, Stored};
use asynqueue_core::{
    broker::{Apart, BrokerError, LeaseInfo, Part, TaskInfo, Version},
    process::Progress,
    task::{Name, TaskState, Timestamp},
};
use bytes::Bytes;
use tokio_postgres::Row;

use crate::sql::values::{task_id, timestamp};

/// The state that a number of the tables stands for.
pub(super) fn task_state(number: i16) -> TaskState {
    match number {
        1 => TaskState::Active,
        2 => TaskState::Pending,
        3 => TaskState::Scheduled,
        4 => TaskState::Retry,
        5 => TaskState::Completed,
        6 => TaskState::Archived,
        7 => TaskState::Aggregating,
        _ => TaskState::Other,
    }
}

/// A task with everything that is stored about it.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) stored: Stored,
    pub(super) turn: i64,
    pub(super) queue: i32,
    pub(super) state: TaskState,
    at: Option<Timestamp>,
    lease: Option<LeaseInfo>,
    progress: Option<Vec<u8>>,
    result: Option<Vec<u8>>,
    apart: Option<Apart>,
}

/// The columns of [`Whole`], of the tables that [`FROM`] joins to `asynqueue.task` as `k`.
macro_rules! whole {
    ($more:literal, $from:literal, $rest:literal) => {
        concat!(
            "select ",
            $more,
            ", k.turn, k.queue, k.id, k.envelope, c.changes, c.result, l.until, l.worker, n.progress, \
             case when l.turn is not null then 1 when x.turn is not null then x.state when m.turn is not null then 7 else 2 \
             end::smallint, case when l.turn is not null then null else coalesce(x.at, m.at, \
             (select s.at from asynqueue.range_of(k.queue, k.rank, k.turn) s limit 1)) end, g.first, g.tries, g.delay from ",
            $from,
            " left join asynqueue.lease l on l.turn = k.turn left join asynqueue.later x on x.turn = k.turn \
             left join asynqueue.member m on m.turn = k.turn left join asynqueue.\"group\" g on g.id = m.\"group\" \
             left join asynqueue.change c on c.turn = k.turn left join asynqueue.running n on n.turn = k.turn ",
            $rest
        )
    };
}
pub(super) use whole;

impl Whole {
    /// From the columns after the first, which the caller has chosen.
    pub(super) fn of(row: &Row) -> Result<Self, BrokerError> {
        let worker: Option<String> = row.get(8);
        let lease = worker.zip(row.get::<_, Option<i64>>(7));
        let lease =
            lease.map(|(worker, until)| LeaseInfo::new(Name::from(worker), timestamp(until)));
        Ok(Self {
            turn: row.get(1),
            queue: row.get(2),
            stored: Stored {
                id: task_id(row.get(3))?,
                envelope: row.get(4),
                changes: row.get(5),
            },
            result: row.get(6),
            lease,
            progress: row.get(9),
            state: task_state(row.get(10)),
            at: row.get::<_, Option<i64>>(11).map(timestamp),
            apart: apart(row)?,
        })
    }

    pub(super) fn version(&self) -> Version {
        self.stored.version(self.state)
    }

    pub(super) fn info(self, queue: &Name) -> Result<TaskInfo, BrokerError> {
        let (state, version) = (self.state, self.version());
        let mut info = TaskInfo::new(self.stored.read(queue).either(), state, version);
        match state {
            TaskState::Pending | TaskState::Aggregating => info.since = self.at,
            _ => info.at = self.at,
        }
        info.lease = self.lease;
        if let Some(progress) = self.progress {
            let progress: Progress = rmp_serde::from_slice(&progress).map_err(|error| {
                BrokerError::protocol("a progress cannot be read").caused_by(error)
            })?;
            info.progress = Some(progress);
        }
        info.apart = self.apart;
        if state == TaskState::Completed {
            info.result = self.result.map(Bytes::from);
        }
        Ok(info)
    }
}

/// The part of a group that a member waits in.
fn apart(row: &Row) -> Result<Option<Apart>, BrokerError> {
    let (Some(first), Some(tries), Some(delay)) = (
        row.get::<_, Option<Vec<u8>>>(12),
        row.get::<_, Option<i32>>(13),
        row.get::<_, Option<i64>>(14),
    ) else {
        return Ok(None);
    };
    let delay = Duration::from_millis(u64::try_from(delay).unwrap_or_default());
    Ok(part(&first, tries)?.map(|part| Apart { part, delay }))
}

/// The part whose columns these are. `None` for a group itself.
pub(super) fn part(first: &[u8], tries: i32) -> Result<Option<Part>, BrokerError> {
    if first.is_empty() {
        return Ok(None);
    }
    let tries = u32::try_from(tries).unwrap_or(u32::MAX);
    Ok(Some(Part {
        first: task_id(first)?,
        tries,
    }))
}
