//! The statistics of a queue, which the target adds to its own once.
//!
//! The source keeps what the target has absorbed so far, and what is being sent under which id. A process that resumes
//! sends that again under the same id. What is counted at the source later is sent as a difference.
//!
//! A process that dies between the deletion of the queue and that of its record leaves a record of sums that no longer
//! exist. New attempts at the source then count from zero. They are recognised by the hours, which do not return. Hours
//! that are forgotten after 90 days are the exception that does no harm: a process that is dead for so long resumes no
//! move.

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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Record {
    /// What the target has absorbed.
    absorbed: Sums,
    /// What is being sent, and its id.
    sending: Option<(Name, Sums)>,
}

/// Statistics as they were read at the source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sums {
    succeeded: u64,
    failed: u64,
    trimmed_by_count: u64,
    trimmed_by_age: u64,
    last_trimmed: Option<Timestamp>,
    archive_max: Option<u64>,
    /// Succeeded and failed attempts by the start of the hour.
    hours: BTreeMap<u64, (u64, u64)>,
}

impl Sums {
    fn of(totals: &Totals) -> Self {
        let hours = totals.hours.iter();
        Self {
            succeeded: totals.succeeded,
            failed: totals.failed,
            trimmed_by_count: totals.archive.trimmed_by_count,
            trimmed_by_age: totals.archive.trimmed_by_age,
            last_trimmed: totals.archive.last_trimmed,
            archive_max: totals.archive.max,
            hours: hours
                .map(|hour| (hour.start.as_millis(), (hour.succeeded, hour.failed)))
                .collect(),
        }
    }

    /// Whether these sums can have become of `before`. Otherwise the queue was deleted in between, and counted from zero.
    fn continue_from(&self, before: &Self) -> bool {
        let has_hour = |(start, (succeeded, failed)): (&u64, &(u64, u64))| {
            let hour = self.hours.get(start);
            hour.is_some_and(|hour| hour.0 >= *succeeded && hour.1 >= *failed)
        };
        self.succeeded >= before.succeeded
            && self.failed >= before.failed
            && self.trimmed_by_count >= before.trimmed_by_count
            && self.trimmed_by_age >= before.trimmed_by_age
            && before.hours.iter().all(has_hour)
    }

    /// What has been added since `before`.
    fn since(&self, before: &Self) -> Totals {
        let none = Self::default();
        let before = if self.continue_from(before) {
            before
        } else {
            &none
        };
        let hours = self
            .hours
            .iter()
            .filter_map(|(start, (succeeded, failed))| {
                let (old_succeeded, old_failed) =
                    before.hours.get(start).copied().unwrap_or_default();
                let (succeeded, failed) = (
                    succeeded.saturating_sub(old_succeeded),
                    failed.saturating_sub(old_failed),
                );
                let start = Timestamp::from_millis(*start);
                (succeeded + failed > 0).then(|| HourStats::new(start, succeeded, failed))
            });
        Totals {
            succeeded: self.succeeded - before.succeeded,
            failed: self.failed - before.failed,
            archive: ArchiveStats {
                max: self.archive_max,
                trimmed_by_count: self
                    .trimmed_by_count
                    .saturating_sub(before.trimmed_by_count),
                trimmed_by_age: self.trimmed_by_age.saturating_sub(before.trimmed_by_age),
                last_trimmed: self.last_trimmed,
            },
            hours: hours.collect(),
        }
    }
}

/// Moves the statistics of one queue.
pub(super) struct Statistics<'a> {
    pub(super) from: &'a Side,
    pub(super) to: &'a Side,
    pub(super) queue: &'a Name,
}

/// What the names of the records of queues start with.
const QUEUE: &str = "queue\n";

/// The queue of a record, by its name. `None` for other records.
pub(super) fn queue_of(name: &Name) -> Option<Name> {
    name.strip_prefix(QUEUE).map(Name::from)
}

impl Statistics<'_> {
    fn name(&self) -> Name {
        format!("{QUEUE}{}", self.queue).into()
    }

    /// Writes the record of the queue, unless it exists.
    pub(super) async fn begin(&self) -> Result<(), TransferError> {
        let put = Put::Set(encode(&Record::default()), None);
        let begin = DocumentSwap::new(Space::Moves, self.name(), Expect::Absent, put);
        self.from.swap(vec![begin]).await.map(drop)
    }

    /// Removes the record if the target has absorbed nothing.
    pub(super) async fn forget_if_unsent(&self) -> Result<(), TransferError> {
        let name = self.name();
        let Some(kept) = self.from.document(Space::Moves, &name).await? else {
            return Ok(());
        };
        let record: Record = read(&name, &kept)?;
        if record.absorbed == Sums::default() && record.sending.is_none() {
            self.forget().await?;
        }
        Ok(())
    }

    /// Adds to the target what the source has counted and the target has not absorbed yet.
    pub(super) async fn send(&self) -> Result<(), TransferError> {
        let name = self.name();
        let mut kept = self.from.document(Space::Moves, &name).await?;
        let mut record: Record = match &kept {
            Some(kept) => read(&name, kept)?,
            None => Record::default(),
        };
        loop {
            if record.sending.is_none() {
                let stats = self.from.stats(self.queue).await?;
                let sums = Sums::of(&Totals::new(&stats, self.from.hours(self.queue).await?));
                if sums == record.absorbed {
                    return Ok(());
                }
                let id = format!("{:016x}", ambient::random::<u64>()).into();
                record.sending = Some((id, sums));
                kept = self.write(&name, kept.as_ref(), &record).await?;
            }
            // What an earlier process was sending may be old: the source is read again afterwards.
            if let Some((id, sums)) = record.sending.take() {
                let totals = sums.since(&record.absorbed);
                self.to.absorb(self.queue, &id, &totals).await?;
                record.absorbed = sums;
                kept = self.write(&name, kept.as_ref(), &record).await?;
            }
        }
    }

    /// Removes the record, because the queue has been deleted.
    pub(super) async fn forget(&self) -> Result<(), TransferError> {
        let name = self.name();
        let end = DocumentSwap::new(Space::Moves, name, Expect::Any, Put::Remove);
        self.from.swap(vec![end]).await.map(drop)
    }

    async fn write(
        &self,
        name: &Name,
        before: Option<&Document>,
        record: &Record,
    ) -> Result<Option<Document>, TransferError> {
        let expect = before.map_or(Expect::Absent, |kept| Expect::Version(kept.version));
        let put = Put::Set(encode(record), None);
        let change = DocumentSwap::new(Space::Moves, name, expect, put);
        if !self.from.swap(vec![change]).await? {
            return Err(TransferError::Busy);
        }
        self.from.document(Space::Moves, name).await
    }
}
