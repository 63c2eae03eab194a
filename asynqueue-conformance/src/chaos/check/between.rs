//! Guarantees across tasks: unique keys, groups and the ticks of a schedule.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Checker, Promise};
use crate::chaos::{
    history::{Answer, kind_of},
    load::{Kind, WINDOW_MILLIS},
};

impl Checker<'_> {
    /// While a task certainly holds its key, no other task is accepted.
    pub(super) fn check_unique(&mut self) {
        let mut holders: HashMap<&str, Vec<Holder<'_>>> = HashMap::new();
        for (key, task) in &self.history.tasks {
            let tried = task.tried.as_ref();
            let Some(tried) = tried.filter(|_| task.answer == Answer::Accepted) else {
                continue;
            };
            if let (Some(lock), Some(answered)) = (&tried.key, tried.answered) {
                let until = match kind_of(key) {
                    Kind::Window => tried.at + WINDOW_MILLIS * 1_000,
                    // It succeeds once a run has ended with success, not before.
                    _ => task.first_success(),
                };
                holders.entry(lock).or_default().push(Holder {
                    key,
                    tried: tried.at,
                    answered,
                    until,
                });
            }
        }
        for (lock, mut holders) in holders {
            holders.sort_by_key(|holder| holder.tried);
            for (place, first) in holders.iter().enumerate() {
                let later = holders[place + 1..].iter();
                for second in later.take_while(|second| second.tried < first.until) {
                    if second.tried > first.answered && second.answered < first.until {
                        let (first, second) = (first.key, second.key);
                        let what = format!("{lock}: {first} held it when {second} was accepted");
                        self.broken(Promise::Unique, what);
                    }
                }
            }
        }
    }

    pub(super) fn check_groups(&mut self) {
        let mut within: BTreeMap<&str, HashSet<&str>> = BTreeMap::new();
        for (key, task) in &self.history.tasks {
            // Of created tasks, digests name their members, and ticks their entry.
            let members = task.runs.first().map_or("", |run| &run.more);
            if kind_of(key) == Kind::Made && Kind::of(members) == Kind::Member {
                self.figures.aggregates += 1;
                for member in members.split(',') {
                    within.entry(member).or_default().insert(key);
                }
            }
        }
        for (key, task) in self
            .history
            .tasks
            .iter()
            .filter(|(key, _)| kind_of(key) == Kind::Member)
        {
            let count = within.get(key.as_str()).map_or(0, HashSet::len);
            if count > 1 || (count == 0 && task.answer == Answer::Accepted) {
                self.broken(
                    Promise::Group,
                    format!("{key} is in {count} aggregates: {task:?}"),
                );
            }
        }
    }

    /// Each tick of an entry, from the first to the last, has exactly one task.
    pub(super) fn check_ticks(&mut self) {
        let mut ticks: BTreeMap<&str, BTreeMap<u64, HashSet<&str>>> = BTreeMap::new();
        for (key, task) in &self.history.tasks {
            let more = task.runs.first().map_or("", |run| &run.more);
            if let Some((entry, tick)) = more.split_once('@') {
                let tick = tick.parse().unwrap_or_default();
                ticks
                    .entry(entry)
                    .or_default()
                    .entry(tick)
                    .or_default()
                    .insert(key);
            }
        }
        for (entry, ticks) in ticks {
            let mut last = None;
            for (tick, tasks) in ticks {
                self.figures.ticks += 1;
                if tasks.len() > 1 {
                    self.broken(Promise::Tick, format!("{entry} at {tick}: {tasks:?}"));
                }
                if let Some(last) = last.filter(|last| tick != last + 1_000) {
                    self.broken(Promise::Tick, format!("{entry}: after {last} comes {tick}"));
                }
                last = Some(tick);
            }
        }
    }
}

/// A task that certainly holds a unique key from its acceptance until `until`.
struct Holder<'a> {
    key: &'a str,
    tried: u64,
    answered: u64,
    until: u64,
}
