//! Decides from the journals and the final state whether each guarantee held. This file checks single tasks.

mod between;
mod ends;
#[cfg(test)]
mod tests;

use super::{
    history::{Answer, End, History, Run, Task, kind_of},
    load::{Kind, result_of},
    rest::Rest,
};

/// The guarantees.
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
        (Self::Lost, "accepted tasks without an end"),
        (
            Self::Refused,
            "tasks that ran although refused, or were refused without cause",
        ),
        (Self::Twice, "attempts that started twice"),
        (
            Self::Overlap,
            "runs during or after another run without a lost lease",
        ),
        (
            Self::Unstarted,
            "attempts that were never started, without a lost worker",
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
            "runs that contradict a confirmed edit, move, deletion or cancellation",
        ),
        (Self::Result, "results of another task"),
        (Self::Counters, "counters that differ from the journals"),
        (Self::Left, "entries, locks and keys left at the end"),
    ];
}

/// A violated guarantee, with the evidence.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) promise: Promise,
    pub(crate) what: String,
}

/// The outcomes of the tasks, in numbers.
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

/// All input of the checks, and their findings.
pub(crate) struct Checker<'a> {
    pub(super) history: &'a History,
    pub(super) rest: &'a Rest,
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
            checker.broken(Promise::Lost, format!("a problem was recorded: {problem}"));
        }
        for left in rest.undone.iter().chain(&rest.left) {
            checker.broken(Promise::Left, left.clone());
        }
        checker
    }

    pub(super) fn broken(&mut self, promise: Promise, what: String) {
        self.broken.push(Broken { promise, what });
    }

    fn check_answer(&mut self, key: &str, task: &Task) {
        let was_seen = !task.runs.is_empty() || self.rest.archived.contains_key(key);
        match task.answer {
            Answer::Accepted => self.figures.accepted += 1,
            Answer::Refused => {
                self.figures.refused += 1;
                if was_seen {
                    self.broken(Promise::Refused, format!("{key} was refused but exists"));
                }
            }
            Answer::Wrong => {
                self.broken(Promise::Refused, format!("{key} is new but was refused"));
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
            // The due time was recorded before the call, in microseconds; the broker counts milliseconds.
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

    /// Whether a run may follow the previous one.
    fn check_order(&mut self, key: &str, task: &Task, before: Option<&Run>, run: &Run) {
        let (last, end) = before.map_or((0, Some(End::Failed)), |before| {
            (before.attempt, before.end.map(|(_, end)| end))
        });
        let is_given_back = end == Some(End::Stopped) && run.attempt == last;
        if run.attempt <= last && !is_given_back {
            self.broken(Promise::Twice, format!("{key}: {before:?}, then {run:?}"));
        }
        if run.attempt > last + 1 {
            // An attempt in between was leased but never started.
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
}
