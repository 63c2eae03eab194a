//! Tasks as their rows have them.

use std::time::Duration;

pub(super) use asynqueue_core::broker::kit::{Read, Stored};
use asynqueue_core::{
    broker::{Apart, BrokerError, LeaseInfo, Part, TaskInfo, Version},
    process::Progress,
    task::{Name, TaskState, Timestamp},
};
use bytes::Bytes;
use rusqlite::Row;

use crate::{
    change::{state, task_state},
    sql::{Fault, ValueRef, task_id, timestamp},
};

/// A task with everything that is stored about it.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) stored: Stored,
    state: i64,
    pub(super) at: Timestamp,
    pub(super) turn: i64,
    pub(super) lease: Option<(i64, Timestamp, Name)>,
    progress: Option<Vec<u8>>,
    result: Option<Vec<u8>>,
    apart: Option<Apart>,
}

/// A query for [`Whole`], from tables among which `asynqueue_task` is `t`. More columns may follow.
macro_rules! whole {
    ($more:literal, $from:literal, $rest:literal) => {
        concat!(
            "select t.id, t.envelope, c.changes, t.state, t.at, t.turn, l.token, l.until, l.worker, r.progress, \
             c.result, g.first, g.tries, g.delay ",
            $more,
            " from ",
            $from,
            " left join asynqueue_lease l on l.queue = t.queue and l.id = t.id \
             left join asynqueue_running r on r.queue = t.queue and r.id = t.id \
             left join asynqueue_change c on c.queue = t.queue and c.id = t.id \
             left join asynqueue_group g on t.state = 7 and g.id = t.turn ",
            $rest
        )
    };
}
pub(super) use whole;

impl Whole {
    pub(super) fn of(row: &Row<'_>) -> Result<Self, Fault> {
        let lease = match row.get(6)? {
            Some(token) => {
                let worker: String = row.get(8)?;
                Some((token, timestamp(row.get(7)?), Name::from(worker)))
            }
            None => None,
        };
        Ok(Self {
            stored: Stored {
                id: task_id(row.get_ref(0)?)?,
                envelope: row.get(1)?,
                changes: row.get(2)?,
            },
            state: row.get(3)?,
            at: timestamp(row.get(4)?),
            turn: row.get(5)?,
            lease,
            progress: row.get(9)?,
            result: row.get(10)?,
            apart: apart(row)?,
        })
    }

    pub(super) fn state(&self) -> TaskState {
        match self.lease {
            Some(_) => TaskState::Active,
            None => task_state(self.state),
        }
    }

    pub(super) fn version(&self) -> Version {
        self.stored.version(self.state())
    }

    /// The output of a completed task.
    pub(super) fn result(self) -> Option<Bytes> {
        self.result.map(Bytes::from)
    }

    pub(super) fn info(self, queue: &Name) -> Result<TaskInfo, BrokerError> {
        let (state, version) = (self.state(), self.version());
        let mut info = TaskInfo::new(self.stored.read(queue).either(), state, version);
        info.at = match self.state {
            state::PENDING | state::AGGREGATING => None,
            _ => Some(self.at),
        };
        info.lease = self
            .lease
            .map(|(_, until, worker)| LeaseInfo::new(worker, until));
        if let Some(progress) = self.progress {
            let progress: Progress = rmp_serde::from_slice(&progress).map_err(|error| {
                BrokerError::protocol("a progress cannot be read").caused_by(error)
            })?;
            info.progress = Some(progress);
        }
        if matches!(state, TaskState::Pending | TaskState::Aggregating) {
            info.since = Some(self.at);
        }
        info.apart = self.apart;
        if state == TaskState::Completed {
            info.result = self.result.map(Bytes::from);
        }
        Ok(info)
    }
}

/// The part of a group that a member waits in.
fn apart(row: &Row<'_>) -> Result<Option<Apart>, Fault> {
    let delay: Option<i64> = row.get(13)?;
    let (Some(delay), first) = (delay, row.get_ref(11)?) else {
        return Ok(None);
    };
    let Some(part) = part(first, row.get(12)?)? else {
        return Ok(None);
    };
    let delay = Duration::from_millis(u64::try_from(delay).unwrap_or_default());
    Ok(Some(Apart { part, delay }))
}

/// The part whose columns these are. `None` for a group itself.
pub(super) fn part(first: ValueRef<'_>, tries: i64) -> Result<Option<Part>, Fault> {
    if matches!(first, ValueRef::Text(b"")) {
        return Ok(None);
    }
    let (first, tries) = (task_id(first)?, u32::try_from(tries).unwrap_or(u32::MAX));
    Ok(Some(Part { first, tries }))
}
