//! The record of a queue that is being moved, and its statistics, which the target adds to its own once.
//!
//! The source keeps what the target has absorbed so far, and what is being sent under which id. A process that resumes
//! sends that again under the same id. What is counted at the source later is sent as a difference.
//!
//! The sums belong to one life of the queue: from its first task to its deletion. The queue remembers the id of this
//! life, as it remembers those of statistics. A queue that does not remember it has been deleted since, and counts from
//! zero.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    error::TransferError,
    ledger::{encode, read},
    side::Side,
};
use crate::{
    ambient,
    broker::{ArchiveStats, Document, DocumentSwap, Expect, HourStats, Put, Space, Totals},
    task::{Name, Timestamp},
};

/// The record of a queue at the source.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    /// The id of the life of the queue.
    life: Name,
    /// What the target has absorbed of this life.
    absorbed: Sums,
    /// What is being sent, and its id.
    sending: Option<(Name, Sums)>,
    /// Whether the move has paused the queue at the source.
    is_halted: bool,
}

/// Statistics as they were read at the source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sums {
    succeeded: u64,
    failed: u64,
    lost: u64,
    trimmed_by_count: u64,
    trimmed_by_age: u64,
    last_trimmed: Option<Timestamp>,
    archive_max: Option<u64>,
    /// Succeeded, failed and lost attempts by the start of the hour.
    hours: BTreeMap<u64, (u64, u64, u64)>,
}

impl Sums {
    fn of(totals: &Totals) -> Self {
        let hours = totals.hours.iter();
        Self {
            succeeded: totals.succeeded,
            failed: totals.failed,
            lost: totals.lost,
            trimmed_by_count: totals.archive.trimmed_by_count,
            trimmed_by_age: totals.archive.trimmed_by_age,
            last_trimmed: totals.archive.last_trimmed,
            archive_max: totals.archive.max,
            hours: hours
                .map(|hour| {
                    let attempts = (hour.succeeded, hour.failed, hour.lost);
                    (hour.start.as_millis(), attempts)
                })
                .collect(),
        }
    }

    /// What has been added since `before`.
    fn since(&self, before: &Self) -> Totals {
        let hours = self.hours.iter().map(|(start, (succeeded, failed, lost))| {
            let old = before.hours.get(start).copied().unwrap_or_default();
            let (succeeded, failed) = (
                succeeded.saturating_sub(old.0),
                failed.saturating_sub(old.1),
            );
            let start = Timestamp::from_millis(*start);
            HourStats::new(start, succeeded, failed).with_lost(lost.saturating_sub(old.2))
        });
        Totals {
            succeeded: self.succeeded.saturating_sub(before.succeeded),
            failed: self.failed.saturating_sub(before.failed),
            lost: self.lost.saturating_sub(before.lost),
            archive: ArchiveStats {
                max: self.archive_max,
                trimmed_by_count: self
                    .trimmed_by_count
                    .saturating_sub(before.trimmed_by_count),
                trimmed_by_age: self.trimmed_by_age.saturating_sub(before.trimmed_by_age),
                last_trimmed: self.last_trimmed,
            },
            hours: hours.filter(|hour| hour.ended() > 0).collect(),
        }
    }
}

/// What the names of the records of queues start with.
const QUEUE: &str = "queue\n";

/// The queue of a record, by its name. `None` for other records.
pub(super) fn queue_of(name: &Name) -> Option<Name> {
    name.strip_prefix(QUEUE).map(Name::from)
}

/// An id that was never used before.
fn new_id() -> Name {
    format!("{:016x}", ambient::random::<u64>()).into()
}

/// The record of one queue, as this process knows it.
pub(super) struct Statistics {
    from: Side,
    to: Side,
    queue: Name,
    name: Name,
    record: Record,
    kept: Document,
}

impl Statistics {
    /// The record of a queue, which is written if it does not exist.
    pub(super) async fn open(from: &Side, to: &Side, queue: &Name) -> Result<Self, TransferError> {
        let name = Name::from(format!("{QUEUE}{queue}"));
        loop {
            if let Some(kept) = from.document(Space::Moves, &name).await? {
                return Ok(Self {
                    from: from.clone(),
                    to: to.clone(),
                    queue: queue.clone(),
                    record: read(&name, &kept)?,
                    name,
                    kept,
                });
            }
            let record = Record {
                life: new_id(),
                absorbed: Sums::default(),
                sending: None,
                is_halted: false,
            };
            let put = Put::Set(encode(&record), None);
            let begin = DocumentSwap::new(Space::Moves, &name, Expect::Absent, put);
            from.swap(vec![begin]).await?;
        }
    }

    /// Whether the move has paused the queue at the source.
    pub(super) fn is_halted(&self) -> bool {
        self.record.is_halted
    }

    /// Pauses the queue at the source, so that nothing is counted there any more. Does nothing if it is paused.
    pub(super) async fn halt(&mut self) -> Result<(), TransferError> {
        if !self.from.stats(&self.queue).await?.paused {
            self.record.is_halted = true;
            self.write().await?;
            self.from.set_paused(&self.queue, true).await?;
        }
        Ok(())
    }

    /// Resumes the queue, if the move has paused it.
    pub(super) async fn unhalt(&mut self) -> Result<(), TransferError> {
        if self.record.is_halted {
            self.from.set_paused(&self.queue, false).await?;
            self.record.is_halted = false;
            self.write().await?;
        }
        Ok(())
    }

    /// Adds to the target what the source has counted and the target has not absorbed yet.
    pub(super) async fn send(&mut self) -> Result<(), TransferError> {
        self.send_again().await?;
        if !self
            .from
            .has_absorbed(&self.queue, &self.record.life)
            .await?
        {
            (self.record.life, self.record.absorbed) = (new_id(), Sums::default());
            self.write().await?;
            let none = Totals::default();
            self.from
                .absorb(&self.queue, &self.record.life, &none)
                .await?;
        }
        let stats = self.from.stats(&self.queue).await?;
        let hours = self.from.hours(&self.queue).await?;
        let sums = Sums::of(&Totals::new(&stats, hours));
        if sums != self.record.absorbed {
            self.record.sending = Some((new_id(), sums));
            self.write().await?;
            self.send_again().await?;
        }
        Ok(())
    }

    /// Sends what the record says is being sent.
    async fn send_again(&mut self) -> Result<(), TransferError> {
        if let Some((id, sums)) = self.record.sending.take() {
            let totals = sums.since(&self.record.absorbed);
            self.to.absorb(&self.queue, &id, &totals).await?;
            self.record.absorbed = sums;
            self.write().await?;
        }
        Ok(())
    }

    /// Whether the target has absorbed nothing of the queue as it is.
    pub(super) fn is_unsent(&self) -> bool {
        self.record.absorbed == Sums::default() && self.record.sending.is_none()
    }

    /// Removes the record.
    pub(super) async fn forget(self) -> Result<(), TransferError> {
        let end = DocumentSwap::new(Space::Moves, self.name, Expect::Any, Put::Remove);
        self.from.swap(vec![end]).await.map(drop)
    }

    async fn write(&mut self) -> Result<(), TransferError> {
        let put = Put::Set(encode(&self.record), None);
        let expect = Expect::Version(self.kept.version);
        let change = DocumentSwap::new(Space::Moves, &self.name, expect, put);
        if !self.from.swap(vec![change]).await? {
            return Err(TransferError::Busy);
        }
        let kept = self.from.document(Space::Moves, &self.name).await?;
        self.kept = kept.ok_or(TransferError::Busy)?;
        Ok(())
    }
}
