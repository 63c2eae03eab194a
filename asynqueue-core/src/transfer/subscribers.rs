//! Copies subscribers and what was removed on request. Both stay at the source too: without its subscribers, a task
//! that is still published there would be dropped.

use super::{error::TransferError, side::Side};
use crate::{
    broker::{DocumentSwap, Expect, Put, SUBSCRIPTIONS_MARK, Space, new_mark},
    task::Name,
};

/// Copies what is declared.
pub(super) struct Subscribers<'a> {
    pub(super) from: &'a Side,
    pub(super) to: &'a Side,
}

impl Subscribers<'_> {
    /// Copies everything. Returns how many subscribers the target did not have.
    pub(super) async fn copy(&self) -> Result<u64, TransferError> {
        self.copy_removals().await?;
        let before = self.count(self.to).await?;
        for (event, document) in self.from.documents(Space::Subscriptions).await? {
            let mark = new_mark(SUBSCRIPTIONS_MARK).map_err(|error| self.to.failed(error))?;
            let put = Put::Set(document.bytes, document.due);
            let copy = DocumentSwap::new(Space::Subscriptions, &event, Expect::Absent, put);
            if !self.to.swap(vec![copy, mark]).await? {
                self.add_missing(&event).await?;
            }
        }
        Ok(self.count(self.to).await?.saturating_sub(before))
    }

    /// Adds the subscribers of an event that has some at the target already.
    async fn add_missing(&self, event: &Name) -> Result<(), TransferError> {
        let of = async |side: &Side| {
            let found = side.broker().subscribers(event).await;
            found.map_err(|error| side.failed(error))
        };
        let there = of(self.to).await?;
        let mut missing = of(self.from).await?;
        missing.retain(|one| there.iter().all(|known| known.name != one.name));
        let missing = missing.into_iter().map(|one| (event.clone(), one.name));
        let added = self.to.broker().subscribe(missing.collect()).await;
        added.map_err(|error| self.to.failed(error))
    }

    /// Copies the records of removals, so that programs do not restore at the target what was removed at the source.
    /// What the target has is not removed.
    async fn copy_removals(&self) -> Result<(), TransferError> {
        for (name, document) in self.from.documents(Space::Removals).await? {
            let entry = name.strip_prefix("schedule\n").map(Name::from);
            if let Some(entry) = entry
                && self.to.document(Space::Schedules, &entry).await?.is_some()
            {
                continue;
            }
            let put = Put::Set(document.bytes, document.due);
            let copy = DocumentSwap::new(Space::Removals, &name, Expect::Absent, put);
            self.to.swap(vec![copy]).await?;
        }
        Ok(())
    }

    async fn count(&self, side: &Side) -> Result<u64, TransferError> {
        let found = side.broker().subscriptions().await;
        let found = found.map_err(|error| side.failed(error))?;
        Ok(found.len() as u64)
    }
}
