//! The subscribers of each event as they are kept: one HASH for all, with what was removed and the mark of its state.
//!
//! What is kept beside the events begins with an empty list, which is all that earlier builds read of it.

use std::collections::{BTreeMap, BTreeSet};

use asynqueue_core::{Broker, BrokerError, Name, REMOVALS_KEPT, StateMark, Timestamp};

use super::{
    RedisBroker,
    fleet::{decode, encode},
};
use crate::{keys, reply, script};

/// The field of the mark, and of the time when there is something to forget.
const MARK: &str = "\u{1}mark";

/// The field of what was removed.
const REMOVED: &str = "\u{1}removed";

/// An empty list in MessagePack.
const EMPTY: u8 = 0x90;

/// Name and since when.
pub(super) type Subscriber = (Name, Timestamp);

/// What is known of some events, to be changed.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) mark: StateMark,
    pub(super) events: BTreeMap<Name, Vec<Subscriber>>,
    /// Event and name, and when they were removed.
    removed: Vec<(Name, Name, Timestamp)>,
    /// Whether subscribers were added or removed.
    is_other: bool,
}

/// Fields as they were seen.
type Seen = BTreeMap<String, Vec<u8>>;

/// A field, its value as it was seen, and its new value.
type Change = (String, Vec<u8>, Vec<u8>);

impl Known {
    pub(super) fn has(&self, event: &Name, name: &Name) -> bool {
        let known = self.events.get(event).into_iter().flatten();
        known.into_iter().any(|(other, _)| other == name)
    }

    pub(super) fn was_removed(&self, event: &Name, name: &Name) -> bool {
        let mut removed = self.removed.iter();
        removed.any(|(of, removed, _)| of == event && removed == name)
    }

    pub(super) fn add(&mut self, event: &Name, name: &Name, since: Timestamp) {
        self.forget_removed(event, name);
        let known = self.events.entry(event.clone()).or_default();
        known.push((name.clone(), since));
        known.sort_unstable();
        self.is_other = true;
    }

    /// Removes one, and remembers that, though it may not be there. Returns whether it was.
    pub(super) fn remove(&mut self, event: &Name, name: &Name, now: Timestamp) -> bool {
        let known = self.events.entry(event.clone()).or_default();
        let before = known.len();
        known.retain(|(other, _)| other != name);
        let was_there = known.len() < before;
        self.forget_removed(event, name);
        self.removed.push((event.clone(), name.clone(), now));
        self.is_other = true;
        was_there
    }

    fn forget_removed(&mut self, event: &Name, name: &Name) {
        self.removed
            .retain(|(of, removed, _)| of != event || removed != name);
    }

    fn forget_old(&mut self, now: Timestamp) {
        self.removed.retain(|(_, _, at)| now < *at + REMOVALS_KEPT);
    }

    fn read(seen: &Seen) -> Result<Self, BrokerError> {
        let mut known = Self::default();
        for (field, bytes) in seen {
            match field.as_str() {
                MARK => known.mark = read_mark(bytes).0,
                REMOVED if bytes.is_empty() => {}
                REMOVED => known.removed = decode(bytes.get(1..).unwrap_or_default())?,
                _ if bytes.is_empty() => {}
                event => drop(known.events.insert(event.into(), decode(bytes)?)),
            }
        }
        Ok(known)
    }

    /// The fields that differ from what was seen, but for the mark.
    fn changes(&self, seen: &Seen) -> Result<Vec<Change>, BrokerError> {
        let mut changes = Vec::new();
        for (field, before) in seen {
            let new = match field.as_str() {
                MARK => continue,
                REMOVED if self.removed.is_empty() => Vec::new(),
                REMOVED => [vec![EMPTY], encode(&self.removed)?].concat(),
                event => match self.events.get(event) {
                    Some(known) if !known.is_empty() => encode(known)?,
                    _ => Vec::new(),
                },
            };
            if new != *before {
                changes.push((field.clone(), before.clone(), new));
            }
        }
        Ok(changes)
    }

    /// When there is something to forget.
    fn forget_at(&self) -> Option<Timestamp> {
        let ends = self.removed.iter().map(|(_, _, at)| *at + REMOVALS_KEPT);
        ends.min()
    }
}

fn read_mark(bytes: &[u8]) -> (StateMark, Option<Timestamp>) {
    let number = |from: usize| {
        let bytes = bytes.get(from..from + 8)?;
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    };
    let forget_at = number(9).filter(|at| *at > 0);
    (
        StateMark(number(1).unwrap_or_default()),
        forget_at.map(Timestamp::from_millis),
    )
}

fn mark_bytes(mark: StateMark, forget_at: Option<Timestamp>) -> Vec<u8> {
    let mut bytes = vec![EMPTY];
    bytes.extend(mark.0.to_be_bytes());
    bytes.extend(forget_at.unwrap_or_default().as_millis().to_be_bytes());
    bytes
}

impl RedisBroker {
    /// Changes the subscribers of these events in one step, again if another changes them in between.
    pub(super) async fn change_subscribers<R: Send>(
        &self,
        events: impl IntoIterator<Item = &Name>,
        mut change: impl FnMut(&mut Known) -> R + Send,
    ) -> Result<(StateMark, R), BrokerError> {
        let events: BTreeSet<_> = events.into_iter().map(Name::to_string).collect();
        loop {
            let seen = self.seen_subscribers(&events).await?;
            let mut known = Known::read(&seen)?;
            let answer = change(&mut known);
            known.forget_old(self.now());
            let changes = known.changes(&seen)?;
            let is_new = known.is_other || known.mark == StateMark::default();
            if changes.is_empty() && !is_new {
                return Ok((known.mark, answer));
            }
            if is_new {
                known.mark = StateMark::generate();
            }
            let key = keys::subscriptions(&self.0.prefix);
            let lanes = keys::lanes_beside(&self.0.prefix, &key);
            let lane = self.0.changes.next();
            let args = script::swap_fields::Args {
                not_after: self.script_clock(),
                lane: lane.name(),
                number: lane.number(),
                mark: MARK,
                mark_value: mark_bytes(known.mark, known.forget_at()),
            };
            let keys = script::swap_fields::Keys {
                hash: &key,
                lanes: &lanes,
            };
            let mut call = script::swap_fields::call(keys, args);
            for (field, seen, new) in changes {
                call.row(script::swap_fields::Field { field, seen, new });
            }
            let done = reply::text(call.send(self.link()).await?)?;
            lane.answered();
            if done == "y" {
                return Ok((known.mark, answer));
            }
        }
    }

    async fn seen_subscribers(&self, events: &BTreeSet<String>) -> Result<Seen, BrokerError> {
        let mut command = redis::cmd("HMGET");
        command.arg(keys::subscriptions(&self.0.prefix));
        let fields = [MARK, REMOVED].into_iter();
        let fields = fields.chain(events.iter().map(String::as_str));
        let fields: Vec<_> = fields.map(str::to_owned).collect();
        command.arg(&fields);
        let values = reply::array(self.command(&command).await?)?;
        let seen = fields.into_iter().zip(values).map(|(field, value)| {
            let bytes = reply::some_bytes(value)?;
            Ok((field, bytes.unwrap_or_default()))
        });
        seen.collect()
    }

    /// The mark of the present state. What was removed long ago is forgotten on the way.
    pub(super) async fn mark_of_subscriptions(&self) -> Result<StateMark, BrokerError> {
        let mut command = redis::cmd("HGET");
        command.arg(keys::subscriptions(&self.0.prefix)).arg(MARK);
        let bytes = reply::some_bytes(self.command(&command).await?)?;
        let (mark, forget_at) = read_mark(&bytes.unwrap_or_default());
        if forget_at.is_some_and(|at| at <= self.now()) {
            self.change_subscribers([], |_| ()).await?;
        }
        Ok(mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_before_it_read_the_mark_and_what_was_removed_as_no_subscribers() {
        let mark = mark_bytes(StateMark(7), Some(Timestamp::from_millis(9)));
        assert_eq!(decode::<Vec<Subscriber>>(&mark).expect("a list"), []);
        assert_eq!(
            read_mark(&mark),
            (StateMark(7), Some(Timestamp::from_millis(9)))
        );
        let mut known = Known::default();
        known.remove(&"e".into(), &"s".into(), Timestamp::from_millis(1));
        let seen = Seen::from([(REMOVED.to_owned(), Vec::new())]);
        let changes = known.changes(&seen).expect("encoded");
        let removed = &changes[0].2;
        assert_eq!(decode::<Vec<Subscriber>>(removed).expect("a list"), []);
        let seen = Seen::from([(REMOVED.to_owned(), removed.clone())]);
        let read = Known::read(&seen).expect("read");
        assert!(read.was_removed(&"e".into(), &"s".into()));
    }
}
