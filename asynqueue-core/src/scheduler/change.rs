//! Changing stored entries: read, decide, and replace an entry only if it has not changed in between.

use std::collections::{BTreeMap, HashSet};

use super::{Entry, ScheduleError, Scheduler};
use crate::{
    broker::{BrokerError, ScheduleEntry, ScheduleSwap, SharedBroker},
    task::Name,
};

/// Changes an entry to the result of `decide`, and decides again if it has changed in between. `Ok(None)` leaves the
/// entry unchanged.
pub(super) async fn change(
    broker: &SharedBroker,
    name: &Name,
    mut decide: impl FnMut(Option<&ScheduleEntry>) -> Result<Option<ScheduleEntry>, ScheduleError>,
) -> Result<(), ScheduleError> {
    loop {
        let seen = broker.schedule(name).await?;
        let Some(new) = decide(seen.as_ref())? else {
            return Ok(());
        };
        let swap = ScheduleSwap {
            name: name.clone(),
            seen,
            new: Some(new),
        };
        if broker.swap_schedules(vec![swap]).await?.first() == Some(&true) {
            return Ok(());
        }
    }
}

impl Scheduler {
    /// Adds or changes entries and, if requested, removes other entries of the same source.
    pub(super) async fn put(
        &mut self,
        entries: Vec<Entry>,
        source: &str,
        remove: bool,
    ) -> Result<(), ScheduleError> {
        let mut wanted = BTreeMap::new();
        for entry in entries {
            let new = entry.into_kept(&self.firing.producer, source)?;
            if let Some(twice) = wanted.insert(new.name.clone(), new) {
                let entry = twice.name.to_string();
                return Err(ScheduleError::Duplicate { entry });
            }
        }
        let mut unreadable = HashSet::new();
        loop {
            let known = self.broker().schedules().await?;
            let gone = |old: &ScheduleEntry| {
                remove && old.source == source && !wanted.contains_key(&old.name)
            };
            let mut swaps: Vec<_> = (wanted.values())
                .filter(|new| !unreadable.contains(&new.name))
                .filter_map(|new| put_in_place(&known, new))
                .collect();
            let removed = known.iter().filter(|old| gone(old));
            swaps.extend(removed.map(|old| ScheduleSwap {
                name: old.name.clone(),
                seen: Some(old.clone()),
                new: None,
            }));
            let swapped = self.broker().swap_schedules(swaps.clone()).await?;
            let refused = swaps.into_iter().zip(swapped).filter(|(_, done)| !done);
            let refused: Vec<_> = refused.map(|(swap, _)| swap).collect();
            if refused.is_empty() {
                self.declared.put(source, wanted.into_values());
                return Ok(());
            }
            // They have changed in between, or exist and were written by a later version.
            for swap in refused.into_iter().filter(|swap| swap.seen.is_none()) {
                if let Err(error @ BrokerError::Protocol(_)) =
                    self.broker().schedule(&swap.name).await
                {
                    tracing::error!(entry = %swap.name, %error, "the stored schedule entry is undecodable \
                                                                 and was not replaced; remove it to add the new one");
                    unreadable.insert(swap.name);
                }
            }
        }
    }
}

/// The change that replaces the stored entry of the same name. `None` if they are equal.
fn put_in_place(known: &[ScheduleEntry], new: &ScheduleEntry) -> Option<ScheduleSwap> {
    let old = known.iter().find(|old| old.name == new.name);
    let new = match old {
        Some(old) => changes(old, new.clone())?,
        None => new.clone(),
    };
    Some(ScheduleSwap {
        name: new.name.clone(),
        seen: old.cloned(),
        new: Some(new),
    })
}

/// The new value of an entry. `None` if nothing changes. Its next tick and whether it is paused are kept.
fn changes(old: &ScheduleEntry, new: ScheduleEntry) -> Option<ScheduleEntry> {
    let as_it_stands = ScheduleEntry {
        next: if old.rule == new.rule {
            old.next
        } else {
            new.next
        },
        paused: old.paused,
        ..new
    };
    (as_it_stands != *old).then_some(as_it_stands)
}
