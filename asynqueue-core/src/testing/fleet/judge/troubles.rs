//! When each node was in trouble.

use std::{collections::BTreeMap, time::Duration};

use super::{
    super::{Fault, Strike},
    Entry, Event, Held,
};
use crate::task::{Name, Timestamp};

/// What a fault may still cost after it has ended: calls that are late or take effect twice, and what waits to be sent again.
const AFTER: Duration = Duration::from_secs(25);

/// A signal that was lost holds up all tasks of its queue until a server polls it, since a queue signals when it is no longer empty.
/// While there are signals, that takes ten of the server's poll intervals.
const POLLED: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(super) struct Troubles {
    /// Whom, from when and until when.
    times: Vec<(Option<usize>, Duration, Duration)>,
    /// When nodes were killed, or had stopped while the store was full.
    deaths: BTreeMap<usize, Vec<Duration>>,
    /// When any fault struck that is not a sick queue's, from when and until when.
    faults: Vec<(Duration, Duration)>,
    /// Which queue was sick, from when and until when.
    sick: Vec<(Option<Name>, Duration, Duration)>,
    clock_was_set: Option<Duration>,
    /// When the store's clock was set, and what it showed before.
    shown: Vec<(Duration, Timestamp)>,
}

impl Troubles {
    pub(super) fn of(entries: &[Entry], queues: &[Name]) -> Self {
        let mut troubles = Self::default();
        let (mut open, mut full) = (Vec::new(), Vec::new());
        for entry in entries {
            match &entry.event {
                Event::Begins(strike) => {
                    if matches!(strike.fault, Fault::StoreClock | Fault::NodeClock) {
                        troubles.clock_was_set.get_or_insert(entry.at);
                    }
                    if strike.fault == Fault::StoreClock {
                        troubles.shown.push((entry.at, entry.now));
                    }
                    open.push((strike, entry.at));
                }
                Event::Ends(strike) => {
                    let place = open.iter().position(|(one, _)| one == &strike);
                    let from = place.map_or(entry.at, |place| open.remove(place).1);
                    let until = entry.at + AFTER;
                    if strike.fault.may_cost_leases() {
                        troubles.times.push((strike.node, from, until));
                    }
                    if strike.fault == Fault::Full {
                        full.push((strike, until));
                    }
                    match strike.fault {
                        Fault::SickQueue => {
                            let queue = strike.queue_of(queues).cloned();
                            troubles.sick.push((queue, from, until));
                        }
                        Fault::Deaf => troubles.faults.push((from, until + POLLED)),
                        _ => troubles.faults.push((from, until)),
                    }
                }
                Event::Killed => troubles.died(entry),
                // While it stops, it extends no lease whose outcome it cannot record.
                Event::Stopping | Event::Stopped => {
                    let lasts = open.iter().map(|(strike, _)| *strike);
                    let ended = full.iter().filter(|(_, until)| *until >= entry.at);
                    let mut strikes = lasts.chain(ended.map(|(strike, _)| *strike));
                    // It cannot have recorded its last outcomes.
                    let is_full = |strike: &Strike| {
                        strike.fault == Fault::Full
                            && entry.node.is_some_and(|node| strike.concerns(node))
                    };
                    if strikes.any(is_full) {
                        troubles.died(entry);
                    }
                }
                _ => {}
            }
        }
        troubles
    }

    /// Notes that a node ends without what it holds being given back.
    fn died(&mut self, entry: &Entry) {
        if let Some(node) = entry.node {
            self.deaths.entry(node).or_default().push(entry.at);
        }
    }

    /// Whether the worker with this lease may have lost it until a time.
    pub(super) fn may_have_lost(&self, held: &Held, until: Duration) -> bool {
        let Some(node) = held.node else {
            return true;
        };
        let mut deaths = self.deaths.get(&node).into_iter().flatten();
        let mut times = self.times.iter();
        deaths.any(|death| (held.since..=until).contains(death))
            || times.any(|(whom, from, to)| {
                let is_it = whom.is_none_or(|whom| whom == node);
                is_it && *from <= until && *to >= held.since
            })
    }

    /// Whether no fault struck a queue between two times, whatever other queues were sick.
    pub(super) fn all_is_well(&self, queue: &Name, from: Duration, until: Duration) -> bool {
        let strikes = |(begin, end): &(Duration, Duration)| *begin <= until && *end >= from;
        let mut sick = self.sick.iter();
        let is_sick =
            sick.any(|(sick, begin, end)| sick.as_ref() == Some(queue) && strikes(&(*begin, *end)));
        // A clock that was set lets servers sleep past what is due for up to a poll interval.
        !self.clock_was_set(until) && !self.faults.iter().any(strikes) && !is_sick
    }

    /// Whether a time had come since then before the store's clock was set back.
    pub(super) fn was_due(&self, due: Timestamp, since: Duration) -> bool {
        let mut shown = self.shown.iter();
        shown.any(|(at, now)| *at >= since && *now >= due)
    }

    /// Whether a clock was set before this time.
    pub(super) fn clock_was_set(&self, at: Duration) -> bool {
        self.clock_was_set.is_some_and(|set| set <= at)
    }
}
