//! Changing kept entries: read, decide, and replace the entry only if it has not changed meanwhile.

use std::collections::{BTreeMap, HashSet};

use super::{Entry, ScheduleError, Scheduler};
use crate::{
    broker::{BrokerError, ScheduleEntry, ScheduleSwap, SharedBroker},
    task::Name,
};

/// Changes an entry to what `decide` makes of it, and decides again whenever another has changed it in between.
/// `Ok(None)` leaves it as it is.
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
    /// Puts entries that are new or have changed, and removes those of the same source that are gone, if asked to.
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
            // Another has changed them in between; or they are there, and were written by a later version.
            for swap in refused.into_iter().filter(|swap| swap.seen.is_none()) {
                if let Err(error @ BrokerError::Protocol(_)) =
                    self.broker().schedule(&swap.name).await
                {
                    tracing::error!(entry = %swap.name, %error, "the stored schedule entry cannot be read, \
                        and was not replaced; remove it to put another in its place");
                    unreadable.insert(swap.name);
                }
            }
        }
    }
}

/// What puts an entry in place of the one of its name: nothing if they say the same.
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

/// What takes the place of an entry: nothing if it says the same. Where it stands and whether it is paused stay as they are.
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
