//! What killed processes have printed, and the states that each task may be in after that.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use asynqueue_core::task::TaskState;

/// A state, or `None` if the task does not exist.
type State = Option<TaskState>;

/// What is known about each task.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    tasks: BTreeMap<String, Known>,
    enqueued: usize,
    settled: BTreeMap<String, usize>,
}

#[derive(Debug, Default)]
struct Known {
    /// The token of the lease that was settled last.
    token: u64,
    may_be: Vec<State>,
}

/// A task that waits may have been leased without a line.
const WAITS: [State; 2] = [Some(TaskState::Pending), Some(TaskState::Active)];

/// The states after an outcome, by its word.
fn after(word: &str) -> Vec<State> {
    match word {
        "gone" => vec![None],
        "completed" => vec![Some(TaskState::Completed)],
        "retry" => vec![Some(TaskState::Retry)],
        "archived" => vec![Some(TaskState::Archived)],
        "pending" => WAITS.to_vec(),
        _ => panic!("unknown outcome `{word}`"),
    }
}

impl Ledger {
    /// Reads the lines of a process.
    pub(crate) fn read(&mut self, lines: &[String]) {
        for line in lines {
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["enqueued", id] => {
                    self.enqueued += 1;
                    // A worker may have printed a line about it before.
                    let waits = || Known {
                        token: 0,
                        may_be: WAITS.to_vec(),
                    };
                    self.tasks.entry(id.to_owned()).or_insert_with(waits);
                }
                ["settling", id, token, word] => {
                    let task = self.tasks.entry(id.to_owned()).or_default();
                    task.token = token.parse().expect("a token");
                    task.may_be = after(word);
                    task.may_be.push(Some(TaskState::Active));
                }
                ["settled", id, token, word] => {
                    *self.settled.entry(word.to_owned()).or_default() += 1;
                    let task = self.tasks.get_mut(id).expect("it was to be settled");
                    // A released task may have been leased and settled again before this line.
                    if token.parse() == Ok(task.token) {
                        task.may_be = after(word);
                    }
                }
                ["opening"] => {}
                _ => panic!("unknown line `{line}`"),
            }
        }
    }

    /// Compares with the tasks of the file after the death of this process, and takes over their states. Returns the
    /// differences.
    pub(crate) fn compare(&mut self, found: &[(String, TaskState)], round: u64) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut states: HashMap<&str, TaskState> = HashMap::new();
        for (id, state) in found {
            if let Some(other) = states.insert(id, *state) {
                wrong.push(format!("{id} is {state} and {other}"));
            }
            // A call without a response may have been accepted.
            if !self.tasks.contains_key(id) && !id.starts_with(&format!("{round}-")) {
                wrong.push(format!("{id} is {state}, but ended before"));
            }
        }
        for (id, task) in &self.tasks {
            let state = states.get(id.as_str()).copied();
            if !task.may_be.contains(&state) {
                let may_be = &task.may_be;
                wrong.push(format!(
                    "{id} is {state:?}, but may only be one of {may_be:?}"
                ));
            }
        }
        let known = |(id, state): (&str, TaskState)| {
            let waits = matches!(state, TaskState::Pending | TaskState::Active);
            let may_be = if waits {
                WAITS.to_vec()
            } else {
                vec![Some(state)]
            };
            (id.to_owned(), Known { token: 0, may_be })
        };
        self.tasks = states.into_iter().map(known).collect();
        wrong
    }

    /// Forgets tasks that were deleted.
    pub(crate) fn forget<'a>(&mut self, ids: impl Iterator<Item = &'a str>) {
        for id in ids {
            self.tasks.remove(id);
        }
    }

    /// Whether each kind of call was acknowledged.
    pub(crate) fn has_everything(&self) -> bool {
        let words = ["gone", "completed", "retry", "archived", "pending"];
        self.enqueued > 0 && words.iter().all(|word| self.settled.contains_key(*word))
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} tasks accepted; settled: {:?}",
            self.enqueued, self.settled
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(lines: &[&str], found: &[(&str, TaskState)]) -> Vec<String> {
        let lines: Vec<_> = lines.iter().map(|line| (*line).to_owned()).collect();
        let found: Vec<_> = found
            .iter()
            .map(|(id, state)| ((*id).to_owned(), *state))
            .collect();
        let mut ledger = Ledger::default();
        ledger.read(&lines);
        ledger.compare(&found, 3)
    }

    #[test]
    fn an_accepted_task_must_be_there_once() {
        assert_eq!(
            wrong(&["enqueued 3-0-1"], &[("3-0-1", TaskState::Pending)]),
            [""; 0]
        );
        let lost = ["3-0-1 is None, but may only be one of [Some(Pending), Some(Active)]"];
        assert_eq!(wrong(&["enqueued 3-0-1"], &[]), lost);
        let twice = [("3-0-1", TaskState::Pending), ("3-0-1", TaskState::Active)];
        assert_eq!(
            wrong(&["enqueued 3-0-1"], &twice),
            ["3-0-1 is active and pending"]
        );
    }

    #[test]
    fn a_settled_task_is_not_pending_again() {
        let settling = ["enqueued 3-0-1", "settling 3-0-1 7 gone"];
        assert_eq!(wrong(&settling, &[]), [""; 0]);
        assert_eq!(wrong(&settling, &[("3-0-1", TaskState::Active)]), [""; 0]);
        let settled = [&settling[..], &["settled 3-0-1 7 gone"]].concat();
        assert_eq!(wrong(&settled, &[]), [""; 0]);
        let again = ["3-0-1 is Some(Pending), but may only be one of [None]"];
        assert_eq!(wrong(&settled, &[("3-0-1", TaskState::Pending)]), again);
    }

    #[test]
    fn a_late_line_about_an_earlier_lease_changes_nothing() {
        let lines = [
            "settling 3-0-1 7 pending",
            "settling 3-0-1 8 gone",
            "settled 3-0-1 7 pending",
        ];
        assert_eq!(wrong(&lines, &[]), [""; 0]);
    }

    #[test]
    fn a_task_of_an_earlier_process_does_not_come_back() {
        let found = [("2-0-1", TaskState::Pending)];
        assert_eq!(wrong(&[], &found), ["2-0-1 is pending, but ended before"]);
        assert_eq!(wrong(&[], &[("3-0-1", TaskState::Pending)]), [""; 0]);
    }
}
