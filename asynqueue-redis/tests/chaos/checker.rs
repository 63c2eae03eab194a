//! Decides from the journals and what is left whether each promise was kept.

use std::collections::{BTreeMap, HashMap, HashSet};

use asynqueue_core::FailureKind;

use super::{
    history::{Act, Answer, End, History, Run, Task, kind_of},
    load::{Kind, SUBSCRIBERS, WINDOW_MILLIS, result_of},
    rest::{Archived, Rest},
};

/// What was promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Promise {
    Lost,
    Refused,
    Twice,
    Overlap,
    Unstarted,
    Early,
    Unique,
    Group,
    Tick,
    Operator,
    Result,
    Counters,
    Left,
}

impl Promise {
    pub(crate) const ALL: [(Self, &str); 13] = [
        (Self::Lost, "accepted tasks that came to no end"),
        (
            Self::Refused,
            "tasks that ran though they were refused, or were refused without cause",
        ),
        (Self::Twice, "attempts that started twice"),
        (
            Self::Overlap,
            "runs beside or after another without a lost lease",
        ),
        (
            Self::Unstarted,
            "attempts that nobody started, without a lost worker",
        ),
        (Self::Early, "runs before the task was due"),
        (
            Self::Unique,
            "tasks accepted while another held their unique key",
        ),
        (
            Self::Group,
            "members in no finished aggregate, or in several",
        ),
        (Self::Tick, "ticks without a task, or with several"),
        (
            Self::Operator,
            "runs against an edit, move, deletion or cancellation that was answered",
        ),
        (Self::Result, "results that were not those of the task"),
        (Self::Counters, "counters that differ from the journals"),
        (Self::Left, "entries, locks and keys left at the end"),
    ];
}

/// A promise that was not kept, and how it shows.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) promise: Promise,
    pub(crate) what: String,
}

/// What came of the tasks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) accepted: u64,
    pub(crate) unsure: u64,
    pub(crate) unsure_accepted: u64,
    pub(crate) refused: u64,
    pub(crate) runs: u64,
    pub(crate) completed: u64,
    pub(crate) archived: u64,
    pub(crate) deleted: u64,
    pub(crate) lost_leases: u64,
    pub(crate) overlaps: u64,
    pub(crate) aggregates: u64,
    pub(crate) ticks: u64,
}

/// Everything that is known, and what was found.
pub(crate) struct Checker<'a> {
    history: &'a History,
    rest: &'a Rest,
    pub(crate) broken: Vec<Broken>,
    pub(crate) figures: Figures,
}

impl<'a> Checker<'a> {
    pub(crate) fn check(history: &'a History, rest: &'a Rest) -> Self {
        let mut checker = Self {
            history,
            rest,
            broken: Vec::new(),
            figures: Figures::default(),
        };
        for (key, task) in &history.tasks {
            checker.check_answer(key, task);
            checker.check_runs(key, task);
            checker.check_acts(key, task);
        }
        checker.check_ends();
        checker.check_unique();
        checker.check_groups();
        checker.check_ticks();
        for problem in &history.problems {
            checker.broken(Promise::Lost, format!("a problem was noted: {problem}"));
        }
        for left in rest.undone.iter().chain(&rest.left) {
            checker.broken(Promise::Left, left.clone());
        }
        checker
    }

    fn broken(&mut self, promise: Promise, what: String) {
        self.broken.push(Broken { promise, what });
    }

    fn check_answer(&mut self, key: &str, task: &Task) {
        let was_seen = !task.runs.is_empty() || self.rest.archived.contains_key(key);
        match task.answer {
            Answer::Accepted => self.figures.accepted += 1,
            Answer::Refused => {
                self.figures.refused += 1;
                if was_seen {
                    self.broken(Promise::Refused, format!("{key} was refused, and is there"));
                }
            }
            Answer::Wrong => {
                self.broken(Promise::Refused, format!("{key} is new, and was refused"));
            }
            Answer::Unsure if task.tried.is_some() => {
                self.figures.unsure += 1;
                self.figures.unsure_accepted += u64::from(was_seen);
            }
            Answer::Unsure => {}
        }
        for result in &task.results {
            if *result != result_of(key) {
                self.broken(Promise::Result, format!("{key} returned {result}"));
            }
        }
    }

    fn check_runs(&mut self, key: &str, task: &Task) {
        self.figures.runs += task.runs.len() as u64;
        let due = task.tried.as_ref().map_or(0, |tried| tried.due);
        for (place, run) in task.runs.iter().enumerate() {
            // The due time was noted before the call, in microseconds, and the broker counts milliseconds.
            if run.start + 1_000 < due {
                let early = due - run.start;
                self.broken(
                    Promise::Early,
                    format!("{key} ran {early} µs early: {run:?}"),
                );
            }
            let before = task.runs[..place].last();
            self.check_order(key, task, before, run);
            for other in &task.runs[..place] {
                let end = other
                    .end
                    .map_or_else(|| self.history.troubles.end_of(&other.worker), |(at, _)| at);
                if run.start < end {
                    self.figures.overlaps += 1;
                    self.check_lost(key, other, run);
                }
            }
        }
    }

    /// Whether a run may come after the one before it.
    fn check_order(&mut self, key: &str, task: &Task, before: Option<&Run>, run: &Run) {
        let (last, end) = before.map_or((0, Some(End::Failed)), |before| {
            (before.attempt, before.end.map(|(_, end)| end))
        });
        let is_given_back = end == Some(End::Stopped) && run.attempt == last;
        if run.attempt <= last && !is_given_back {
            self.broken(Promise::Twice, format!("{key}: {before:?}, then {run:?}"));
        }
        if run.attempt > last + 1 {
            // An attempt in between was leased by somebody and not begun.
            self.figures.lost_leases += run.attempt - last - 1;
            let from = before.map_or_else(|| task.since(), |before| before.start);
            if !self.history.troubles.anyone_may_have_lost(from, run.start) {
                self.broken(
                    Promise::Unstarted,
                    format!("{key}: after attempt {last}, {run:?}"),
                );
            }
        }
        if let Some(before) = before.filter(|before| run.attempt > before.attempt)
            && end != Some(End::Failed)
        {
            self.figures.lost_leases += 1;
            self.check_lost(key, before, run);
        }
    }

    fn check_lost(&mut self, key: &str, before: &Run, run: &Run) {
        if !self
            .history
            .troubles
            .may_have_lost(&before.worker, before.start, run.start)
        {
            self.broken(Promise::Overlap, format!("{key}: {before:?}, then {run:?}"));
        }
    }

    fn check_acts(&mut self, key: &str, task: &Task) {
        for act in &task.acts {
            let Some((answered, did)) = &act.did else {
                continue;
            };
            for run in task.runs.iter().filter(|run| run.start > *answered) {
                let is_right = match (kind_of(key), did.as_str()) {
                    (Kind::Edited, "done") => run.more == "1",
                    (Kind::Moved, "done") => run.queue == act.to,
                    (Kind::Deleted, "done") | (Kind::Cancelled, "cancelled" | "finished") => false,
                    _ => true,
                };
                if !is_right {
                    self.broken(Promise::Operator, format!("{key}: {act:?}, then {run:?}"));
                }
            }
        }
    }

    /// Each task has come to one end, and the counters count these.
    fn check_ends(&mut self) {
        let (mut succeeded, mut failed, mut may_have_failed) = (0, 0, 0);
        for (key, task) in &self.history.tasks {
            let kind = kind_of(key);
            if let Some(archived) = self.rest.archived.get(key) {
                self.figures.archived += 1;
                failed += archived.attempts;
                self.check_archived(key, task, archived);
                continue;
            }
            if kind == Kind::Deleted
                && task.acts.iter().any(|act| act.may_be("done"))
                && !task.has_run()
            {
                self.figures.deleted += 1;
                may_have_failed += task.last_attempt();
            } else if task.has_run() {
                self.figures.completed += 1;
                succeeded += 1;
                failed += task.last_attempt() - 1;
            } else if kind == Kind::News && !key.contains('/') {
                self.check_news(key, task);
            } else if kind != Kind::Member
                && (task.answer == Answer::Accepted || !task.runs.is_empty())
            {
                self.broken(Promise::Lost, format!("{key}: {task:?}"));
            }
        }
        let found = (self.rest.succeeded, self.rest.failed);
        if found.0 != succeeded {
            let what = format!("{} succeeded, and {succeeded} by the journals", found.0);
            self.broken(Promise::Counters, what);
        }
        if !(failed..=failed + may_have_failed).contains(&found.1) {
            let what = format!(
                "{} failed, and {failed} to {} by the journals",
                found.1,
                failed + may_have_failed
            );
            self.broken(Promise::Counters, what);
        }
        if self.rest.repaired > 0 {
            let what = format!("{} entries were repaired", self.rest.repaired);
            self.broken(Promise::Counters, what);
        }
    }

    /// An event reaches all subscribers, or none if nobody knows whether it was accepted.
    fn check_news(&mut self, key: &str, task: &Task) {
        let mut reached = Vec::new();
        for name in SUBSCRIBERS {
            let of = format!("{key}/{name}@news");
            if self.history.tasks.contains_key(&of) || self.rest.archived.contains_key(&of) {
                reached.push(name);
            }
        }
        let is_right = match task.answer {
            Answer::Accepted => reached.len() == SUBSCRIBERS.len(),
            _ => reached.is_empty() || reached.len() == SUBSCRIBERS.len(),
        };
        if !is_right {
            self.broken(
                Promise::Lost,
                format!("{key} reached {reached:?}: {task:?}"),
            );
        }
    }

    /// Whether there is a reason for a task to be archived.
    fn check_archived(&mut self, key: &str, task: &Task, archived: &Archived) {
        let act = |is: &dyn Fn(&Act) -> bool| task.acts.iter().any(is);
        let is_right = match (kind_of(key), archived.kind) {
            (Kind::Cancelled, Some(FailureKind::Cancelled)) => act(&|act| {
                act.may_be("cancelled") || act.may_be("requested") || act.may_be("finished")
            }),
            (Kind::GivesUp, Some(FailureKind::Error)) => true,
            // Its only attempt was lost with its worker.
            (Kind::Once, Some(FailureKind::LeaseExpired)) => self
                .history
                .troubles
                .anyone_may_have_lost(task.since(), archived.at),
            // Whoever moved it was killed or cut off in between, which leaves it in the archive.
            (Kind::Moved, Some(FailureKind::Shelved))
                if archived.message.contains("being moved") =>
            {
                act(&|act| act.may_be("unsure"))
            }
            _ => false,
        };
        if !is_right {
            let promise = match archived.kind {
                Some(FailureKind::LeaseExpired) => Promise::Unstarted,
                _ => Promise::Lost,
            };
            self.broken(
                promise,
                format!("{key} was archived: {archived:?}; {task:?}"),
            );
        }
    }

    /// While a task surely holds its key, no other is accepted.
    fn check_unique(&mut self) {
        let mut holders: HashMap<&str, Vec<Holder<'_>>> = HashMap::new();
        for (key, task) in &self.history.tasks {
            let tried = task.tried.as_ref();
            let Some(tried) = tried.filter(|_| task.answer == Answer::Accepted) else {
                continue;
            };
            if let (Some(lock), Some(answered)) = (&tried.key, tried.answered) {
                let until = match kind_of(key) {
                    Kind::Window => tried.at + WINDOW_MILLIS * 1_000,
                    // It succeeds once a run has ended so, and not before.
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

    fn check_groups(&mut self) {
        let mut within: BTreeMap<&str, HashSet<&str>> = BTreeMap::new();
        for (key, task) in &self.history.tasks {
            // Of tasks that are made, digests name members, and ticks an entry.
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

    /// Each tick of an entry, from the first to the last, has one task.
    fn check_ticks(&mut self) {
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

/// A task that surely holds a unique key from its answer until then.
struct Holder<'a> {
    key: &'a str,
    tried: u64,
    answered: u64,
    until: u64,
}
