//! Schedule entries by name, and by when they are next due.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    broker::{DueSchedules, ScheduleEntry},
    task::{Name, Timestamp},
};

/// All entries. Each change goes through [`put`](Self::put), [`change`](Self::change) or [`remove`](Self::remove), which keep the
/// order by time.
#[derive(Debug, Default)]
pub(super) struct Entries {
    by_name: BTreeMap<Name, ScheduleEntry>,
    /// Those that are not paused and have a next tick.
    by_next: BTreeSet<(Timestamp, Name)>,
}

impl Entries {
    pub(super) fn get(&self, name: &Name) -> Option<&ScheduleEntry> {
        self.by_name.get(name)
    }

    /// By name.
    pub(super) fn iter(&self) -> impl Iterator<Item = &ScheduleEntry> {
        self.by_name.values()
    }

    /// Puts an entry in the place of one of the same name.
    pub(super) fn put(&mut self, entry: ScheduleEntry) {
        self.remove(&entry.name);
        self.by_next.extend(place(&entry));
        self.by_name.insert(entry.name.clone(), entry);
    }

    /// Changes an entry, if there is one of this name.
    pub(super) fn change(&mut self, name: &Name, change: impl FnOnce(&mut ScheduleEntry)) {
        if let Some(mut entry) = self.remove(name) {
            change(&mut entry);
            self.put(entry);
        }
    }

    pub(super) fn remove(&mut self, name: &Name) -> Option<ScheduleEntry> {
        let entry = self.by_name.remove(name)?;
        if let Some(place) = place(&entry) {
            self.by_next.remove(&place);
        }
        Some(entry)
    }

    /// Up to `limit` entries that are due, earliest first, and when the next after them is. Looks at these alone.
    pub(super) fn due(&self, now: Timestamp, limit: usize) -> DueSchedules {
        let mut waiting = self.by_next.iter().peekable();
        let mut entries = Vec::new();
        while entries.len() < limit
            && let Some((_, name)) = waiting.next_if(|(next, _)| *next <= now)
        {
            entries.extend(self.by_name.get(name).cloned());
        }
        DueSchedules {
            now,
            entries,
            next_due: waiting.peek().map(|(next, _)| *next),
        }
    }
}

fn place(entry: &ScheduleEntry) -> Option<(Timestamp, Name)> {
    let next = entry.next.filter(|_| !entry.paused)?;
    Some((next, entry.name.clone()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::{
        broker::MissedTicks,
        codec::{CodecName, MessagePack},
        task::{Envelope, TaskId},
    };

    fn entry(name: &str, next: Option<u64>) -> ScheduleEntry {
        let codec = CodecName::of::<MessagePack>();
        ScheduleEntry {
            name: name.into(),
            rule: "@hourly".into(),
            template: Envelope::new(TaskId::generate(), "event", codec, Bytes::new()),
            next: next.map(Timestamp::from_millis),
            paused: false,
            missed: MissedTicks::Once,
            jitter: Duration::ZERO,
            source: "code".into(),
        }
    }

    /// What is asked for each second is read off the order by time.
    #[test]
    fn the_order_by_time_has_the_entries_that_wait_whatever_is_changed() {
        let mut entries = Entries::default();
        entries.put(entry("a", Some(5)));
        entries.put(entry("b", Some(3)));
        entries.put(entry("b", Some(7)));
        entries.put(entry("never", None));
        entries.change(&"a".into(), |entry| entry.paused = true);
        entries.change(&"unknown".into(), |entry| entry.paused = true);
        let places = |entries: &Entries| {
            let places = entries.by_next.iter();
            let places = places.map(|(next, name)| (next.as_millis(), name.to_string()));
            places.collect::<Vec<_>>()
        };
        assert_eq!(places(&entries), [(7, "b".into())]);
        entries.change(&"a".into(), |entry| entry.paused = false);
        assert_eq!(places(&entries), [(5, "a".into()), (7, "b".into())]);
        assert!(entries.remove(&"b".into()).is_some());
        assert_eq!(places(&entries), [(5, "a".into())]);
        assert_eq!(entries.iter().count(), 2);
    }
}
