//! Tasks as their rows have them.

use std::{hash::Hasher, sync::Arc};

use asynqueue_core::{
    broker::{BrokerError, LeaseInfo, TaskInfo, Version},
    codec::CodecName,
    process::Progress,
    task::{Envelope, EnvelopeChanges, Failure, FailureKind, Name, TaskId, TaskState, Timestamp},
};
use bytes::Bytes;
use rusqlite::Row;
use siphasher::sip::SipHasher13;

use crate::{
    change::{state, task_state},
    sql::{Fault, task_id, timestamp},
};

/// An envelope as it is stored, to be decoded outside the threads of the database.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) id: TaskId,
    pub(super) envelope: Vec<u8>,
    /// What workers have changed since.
    pub(super) changes: Option<Vec<u8>>,
}

/// A decoded envelope.
pub(super) enum Read {
    Whole(Arc<Envelope>),
    /// The substitute for an envelope that cannot be read.
    Unreadable(Arc<Envelope>),
}

impl Read {
    pub(super) fn either(self) -> Arc<Envelope> {
        match self {
            Self::Whole(envelope) | Self::Unreadable(envelope) => envelope,
        }
    }
}

impl Stored {
    pub(super) fn read(self, queue: &Name) -> Read {
        let decode = || {
            let mut envelope =
                Envelope::from_bytes(queue.clone(), self.id.clone(), &self.envelope)?;
            if let Some(changes) = &self.changes {
                envelope.apply(EnvelopeChanges::from_bytes(changes)?);
            }
            Ok(envelope)
        };
        decode().map_or_else(
            |error: asynqueue_core::task::WireError| {
                let (codec, bytes) = (CodecName::unreadable(), Bytes::from(self.envelope.clone()));
                let mut envelope = Envelope::new(self.id.clone(), "unreadable", codec, bytes);
                envelope.queue = queue.clone();
                let kind = FailureKind::Decode;
                envelope.push_failure(Failure::new(
                    1,
                    Timestamp::default(),
                    kind,
                    error.to_string(),
                ));
                Read::Unreadable(Arc::new(envelope))
            },
            |envelope| Read::Whole(Arc::new(envelope)),
        )
    }

    /// Identifies this state of a task and its envelope.
    fn version(&self, state: TaskState) -> Version {
        // The keys never change: versions outlive processes.
        let mut hasher = SipHasher13::new_with_keys(0x6173_796e, 0x7175_6575);
        hasher.write(state.as_str().as_bytes());
        hasher.write(&self.envelope);
        hasher.write_u8(0);
        hasher.write(self.changes.as_deref().unwrap_or_default());
        Version(hasher.finish())
    }
}

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
}

/// The columns and joins of a query for [`Whole`]. `asynqueue_task` is `t`.
macro_rules! whole {
    ($rest:literal) => {
        concat!(
            "select t.id, t.envelope, c.changes, t.state, t.at, t.turn, l.token, l.until, l.worker, r.progress, c.result \
             from asynqueue_task t \
             left join asynqueue_lease l on l.queue = t.queue and l.id = t.id \
             left join asynqueue_running r on r.queue = t.queue and r.id = t.id \
             left join asynqueue_change c on c.queue = t.queue and c.id = t.id ",
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
        if state == TaskState::Completed {
            info.result = self.result.map(Bytes::from);
        }
        Ok(info)
    }
}
