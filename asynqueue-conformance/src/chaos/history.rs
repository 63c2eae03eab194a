//! The combined journals: each task with its runs, and when each process was in trouble.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use super::{
    journal::{Entry, read_all},
    load::Kind,
    settings::LEASE,
    stage::Fault,
};

/// The history of a run.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) tasks: BTreeMap<String, Task>,
    pub(crate) troubles: Troubles,
    /// How often each fault was injected, by name.
    pub(crate) faults: BTreeMap<String, u64>,
    /// Problems in the journals themselves.
    pub(crate) problems: Vec<String>,
    /// Refused outcomes and reclaimed tasks of workers that ended in order.
    pub(crate) stale: u64,
    pub(crate) reclaimed: u64,
}

/// A task, by its id, with its queue if it belongs to a subscriber.
#[derive(Debug, Default)]
pub(crate) struct Task {
    pub(crate) tried: Option<Tried>,
    pub(crate) answer: Answer,
    pub(crate) runs: Vec<Run>,
    pub(crate) acts: Vec<Act>,
    pub(crate) results: Vec<u64>,
}

/// A task that was about to be enqueued.
#[derive(Clone, Debug)]
pub(crate) struct Tried {
    pub(crate) at: u64,
    /// When the caller received its response.
    pub(crate) answered: Option<u64>,
    /// It must not start before this time.
    pub(crate) due: u64,
    /// The unique key with its queue, if it has one.
    pub(crate) key: Option<String>,
}

/// The response to the caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Unknown: the caller never sent it, was killed, or received no response. The task may have been accepted.
    #[default]
    Unsure,
    Accepted,
    /// The unique key is held by another task.
    Refused,
    /// A response that no caller should receive here.
    Wrong,
}

#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) queue: String,
    pub(crate) attempt: u64,
    pub(crate) worker: String,
    pub(crate) start: u64,
    pub(crate) end: Option<(u64, End)>,
    pub(crate) more: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Ok,
    Failed,
    /// It was requested to stop, and stopped or was dropped.
    Stopped,
}

/// An operation of the operator on a task.
#[derive(Clone, Debug)]
pub(crate) struct Act {
    /// When it was confirmed, and the response. `None` if the operator was killed before.
    pub(crate) did: Option<(u64, String)>,
    pub(crate) to: String,
}

/// When each process was cut off from the store, stopped or dead.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    /// `all`, a place, or a process; start and end.
    times: Vec<(String, u64, u64)>,
    /// When processes were killed or had ended.
    ends: HashMap<String, u64>,
    workers: Vec<String>,
}

/// How long a client needs to recover after a fault: it sends unanswered calls again, or reconnects.
const AFTER: u64 = 1_500_000;

/// A pause between two pulses that counts as trouble.
const SILENCE: u64 = 1_000_000;

pub(crate) const LEASE_MICROS: u64 = LEASE.as_micros() as u64;

impl Troubles {
    fn concerns(whom: &str, worker: &str) -> bool {
        whom == "all" || whom == worker || worker.split('.').next() == Some(whom)
    }

    /// Whether this worker may have lost a lease in this period: within two leases it was unable to extend it for one,
    /// including the time to recover. A lease is lost one and a half lease times after its last extension.
    pub(crate) fn may_have_lost(&self, worker: &str, from: u64, to: u64) -> bool {
        let mine = self
            .times
            .iter()
            .filter(|(whom, ..)| Self::concerns(whom, worker));
        let mut times: Vec<_> = mine.map(|(_, from, to)| (*from, *to + AFTER)).collect();
        times.extend(self.ends.get(worker).map(|end| (*end, u64::MAX)));
        times.sort_unstable();
        let ends = times.iter().map(|(_, end)| *end.min(&to));
        let mut ends = ends.filter(|end| *end > from);
        ends.any(|end| {
            let begin = end.saturating_sub(2 * LEASE_MICROS);
            covered(&times, begin.max(from.saturating_sub(LEASE_MICROS)), end) >= LEASE_MICROS
        })
    }

    /// Whether any worker may have lost a lease.
    pub(crate) fn anyone_may_have_lost(&self, from: u64, to: u64) -> bool {
        let mut workers = self.workers.iter();
        workers.any(|worker| self.may_have_lost(worker, from, to))
    }

    /// When a process was dead at the latest.
    pub(crate) fn end_of(&self, worker: &str) -> u64 {
        self.ends.get(worker).copied().unwrap_or(u64::MAX)
    }
}

/// How much of a period these sorted periods cover.
fn covered(times: &[(u64, u64)], from: u64, to: u64) -> u64 {
    let (mut covered, mut last) = (0, from);
    for (begin, end) in times {
        let (begin, end) = ((*begin).max(last), (*end).min(to));
        if end > begin {
            covered += end - begin;
            last = end;
        }
    }
    covered
}

impl History {
    /// Reads the journals of a directory. These faults may have been injected.
    pub(crate) fn read(dir: &Path, faults: &[Fault]) -> Self {
        let mut history = Self::default();
        for (name, entries) in read_all(dir) {
            if name == "faults" {
                history.read_faults(&entries, faults);
                continue;
            }
            if name.starts_with("worker") {
                history.troubles.workers.push(name.clone());
            }
            let mut last = None;
            for entry in &entries {
                history.take(entry);
                if let Some(last) = last.filter(|last| entry.at > last + SILENCE)
                    && name.starts_with("worker")
                {
                    history.troubles.times.push((name.clone(), last, entry.at));
                }
                last = Some(entry.at);
            }
        }
        for task in history.tasks.values_mut() {
            task.runs.sort_by_key(|run| (run.start, run.attempt));
        }
        history
    }

    fn read_faults(&mut self, entries: &[Entry], faults: &[Fault]) {
        let mut open: Vec<(String, String, u64)> = Vec::new();
        for entry in entries {
            let (fault, whom) = (entry.part(0), entry.part(1));
            match entry.word.as_str() {
                "begin" => open.push((fault.into(), whom.into(), entry.at)),
                "end" => {
                    let is_it = |one: &(String, String, u64)| one.0 == fault && one.1 == whom;
                    let Some(place) = open.iter().position(is_it) else {
                        continue;
                    };
                    let (name, whom, from) = open.remove(place);
                    let known = faults.iter().find(|fault| fault.name == name);
                    if known.is_some_and(|fault| fault.cuts_off) {
                        self.troubles.times.push((whom, from, entry.at));
                    }
                    *self.faults.entry(name).or_default() += 1;
                }
                "slow" => self
                    .troubles
                    .times
                    .push(("all".into(), entry.number(0), entry.at)),
                "died" | "ended" => {
                    self.troubles.ends.insert(fault.into(), entry.at);
                }
                "problem" => self.problems.push(fault.to_owned()),
                _ => {}
            }
        }
    }

    fn take(&mut self, entry: &Entry) {
        let id = entry.part(0);
        match entry.word.as_str() {
            "try" => {
                let key =
                    (entry.part(3) != "-").then(|| format!("{} {}", entry.part(1), entry.part(3)));
                self.task(id).tried = Some(Tried {
                    at: entry.at,
                    answered: None,
                    due: entry.number(2),
                    key,
                });
            }
            "ack" => self.answer(entry, Answer::Accepted),
            "refused" => self.answer(entry, Answer::Refused),
            "known" | "invalid" => self.answer(entry, Answer::Wrong),
            "start" | "end" => self.take_run(entry),
            "ask" => {
                let act = Act {
                    did: None,
                    to: entry.part(1).into(),
                };
                self.task(id).acts.push(act);
            }
            "did" => {
                if let Some(act) = self.task(id).acts.last_mut() {
                    act.did = Some((entry.at, entry.part(2).into()));
                }
            }
            "result" => self.task(id).results.push(entry.number(1)),
            "short" => {
                let problem = format!("{} went to {id} subscribers", entry.part(1));
                self.problems.push(problem);
            }
            "closed" => {
                self.stale += entry.number(1);
                self.reclaimed += entry.number(2);
            }
            _ => {}
        }
    }

    fn answer(&mut self, entry: &Entry, answer: Answer) {
        let task = self.task(entry.part(0));
        task.answer = answer;
        if let Some(tried) = &mut task.tried {
            tried.answered = Some(entry.at);
        }
    }

    fn take_run(&mut self, entry: &Entry) {
        let (queue, id) = (entry.part(0), entry.part(1));
        let (attempt, worker) = (entry.number(2), entry.part(3));
        let task = self.task(&key_of(queue, id));
        if entry.word == "start" {
            task.runs.push(Run {
                queue: queue.into(),
                attempt,
                worker: worker.into(),
                start: entry.at,
                end: None,
                more: entry.part(4).into(),
            });
            return;
        }
        let end = match entry.part(4) {
            "ok" => End::Ok,
            "failed" => End::Failed,
            _ => End::Stopped,
        };
        let is_it =
            |run: &&mut Run| run.worker == worker && run.attempt == attempt && run.end.is_none();
        if let Some(run) = task.runs.iter_mut().find(is_it) {
            run.end = Some((entry.at, end));
        }
    }

    fn task(&mut self, key: &str) -> &mut Task {
        self.tasks.entry(key.to_owned()).or_default()
    }
}

/// The key of a task: a task may be moved, and a subscriber's task has the id of its event.
pub(crate) fn key_of(queue: &str, id: &str) -> String {
    match queue.find('@') {
        Some(1..) => format!("{id}/{queue}"),
        _ => id.to_owned(),
    }
}

impl Task {
    /// Whether it has run to its end.
    pub(crate) fn has_run(&self) -> bool {
        let mut runs = self.runs.iter();
        runs.any(|run| run.end.is_some_and(|(_, end)| end == End::Ok))
    }

    /// When the first successful run had ended, 0 if none has.
    pub(crate) fn first_success(&self) -> u64 {
        let ends = self.runs.iter().filter_map(|run| run.end);
        let successes = ends.filter(|(_, end)| *end == End::Ok);
        successes.map(|(at, _)| at).min().unwrap_or_default()
    }

    /// The earliest time at which it may have existed.
    pub(crate) fn since(&self) -> u64 {
        self.tried.as_ref().map_or(0, |tried| tried.at)
    }

    pub(crate) fn last_attempt(&self) -> u64 {
        let attempts = self.runs.iter().map(|run| run.attempt);
        attempts.max().unwrap_or_default()
    }
}

impl Act {
    /// Whether this may have been its outcome.
    pub(crate) fn may_be(&self, word: &str) -> bool {
        self.did
            .as_ref()
            .is_none_or(|(_, did)| did == word || did == "unsure")
    }
}

/// The kind of the task with this key.
pub(crate) fn kind_of(key: &str) -> Kind {
    Kind::of(key)
}
