//! When each node was in trouble.

use std::{collections::BTreeMap, time::Duration};

use super::{
    super::{Fault, Strike},
    Entry, Event, Held,
};
use crate::task::{Name, Timestamp};

/// How long a fault may have effects after it has ended: delayed and repeated calls, and what waits to be sent again.
const AFTER: Duration = Duration::from_secs(25);

/// A lost signal delays all tasks of its queue until a server polls it, because a queue signals only when it becomes
/// non-empty. With signals, this takes ten of the server's poll intervals.
const POLLED: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(super) struct Troubles {
    /// The node, the start and the end.
    times: Vec<(Option<usize>, Duration, Duration)>,
    /// When nodes were killed, or stopped while the store was full.
    deaths: BTreeMap<usize, Vec<Duration>>,
    /// The start and end of each fault, except for sick queues.
    faults: Vec<(Duration, Duration)>,
    /// The sick queue, the start and the end.
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
                    // It may not have recorded its last outcomes.
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

    /// Records that a node ended without releasing its leases.
    fn died(&mut self, entry: &Entry) {
        if let Some(node) = entry.node {
            self.deaths.entry(node).or_default().push(entry.at);
        }
    }

    /// Whether the worker with this lease may have lost it by the given time.
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

    /// Whether no fault affected a queue between two times, ignoring other sick queues.
    pub(super) fn all_is_well(&self, queue: &Name, from: Duration, until: Duration) -> bool {
        let strikes = |(start, end): &(Duration, Duration)| *start <= until && *end >= from;
        let mut sick = self.sick.iter();
        let is_sick =
            sick.any(|(sick, start, end)| sick.as_ref() == Some(queue) && strikes(&(*start, *end)));
        // After a clock was set, servers may sleep past a due task for up to a poll interval.
        !self.clock_was_set(until) && !self.faults.iter().any(strikes) && !is_sick
    }

    /// Whether a time had been reached since then, before the store's clock was set back.
    pub(super) fn was_due(&self, due: Timestamp, since: Duration) -> bool {
        let mut shown = self.shown.iter();
        shown.any(|(at, now)| *at >= since && *now >= due)
    }

    /// Whether a clock was set before this time.
    pub(super) fn clock_was_set(&self, at: Duration) -> bool {
        self.clock_was_set.is_some_and(|set| set <= at)
    }
}
