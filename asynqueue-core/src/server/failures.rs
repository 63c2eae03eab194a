//! Log lines about failures, with fields to search by.

use std::time::Duration;

use super::Shared;
use crate::{
    broker::{Outcome, Settlement},
    task::{Envelope, Failure},
    trace::trace_of,
};

/// The target of these lines, to filter by.
const TARGET: &str = "asynqueue::failures";

/// Logs one line at a level.
macro_rules! log {
    ($log:ident, $task:ident, $failure:ident, $($rest:tt)*) => {
        tracing::$log!(
            target: TARGET,
            error = $failure.message,
            event = $task.event.as_str(),
            queue = $task.queue.as_str(),
            id = $task.id.as_str(),
            attempt = $failure.attempt,
            max_attempts = max_attempts($task),
            kind = $failure.kind.as_str(),
            trace_id = trace_of(&$task.headers),
            $($rest)*
        )
    };
}

impl Shared {
    /// Logs a warning for a failed attempt. `may_be_completed`: its handler has completed the task in a transaction, and
    /// only the store knows whether it was committed.
    pub(super) fn log_attempt(&self, settlement: &Settlement, may_be_completed: bool) {
        let task = &*settlement.envelope;
        let Some(failure) = self.loggable(task) else {
            return;
        };
        let (delay, next) = match settlement.outcome {
            Outcome::Retry { delay } if delay.is_zero() => {
                (Some(delay), "retrying immediately".into())
            }
            Outcome::Retry { delay } => {
                let delay = Duration::from_millis(delay.as_millis() as u64);
                (Some(delay), format!("retrying in {delay:?}"))
            }
            Outcome::Archive => (None, "archiving the task".to_owned()),
            // These are not failures.
            Outcome::Complete { .. }
            | Outcome::Snooze { .. }
            | Outcome::Release
            | Outcome::Drop => return,
        };
        log!(
            warn,
            task,
            failure,
            retry_in = delay.map(tracing::field::debug),
            "attempt {} of {} failed; {next}{}",
            failure.attempt,
            max_attempts(task),
            match may_be_completed {
                true => ", unless a transaction of the handler has completed the task",
                false => "",
            },
        );
    }

    /// Logs a task that was archived because it failed.
    pub(super) fn log_archived(&self, task: &Envelope) {
        if let Some(failure) = self.loggable(task) {
            log!(error, task, failure, "task archived");
        }
    }

    /// Logs a task that was archived because it was cancelled.
    pub(super) fn log_cancelled(&self, task: &Envelope) {
        if self.settings.log_failures {
            tracing::info!(target: TARGET, event = task.event.as_str(), queue = task.queue.as_str(), id = task.id.as_str(),
                trace_id = trace_of(&task.headers), "task archived: it was cancelled");
        }
    }

    /// The failure to log. `None` if failures are not logged.
    fn loggable<'a>(&self, task: &'a Envelope) -> Option<&'a Failure> {
        let is_wanted = self.settings.log_failures;
        is_wanted.then(|| task.last_failure()).flatten()
    }
}

fn max_attempts(task: &Envelope) -> u64 {
    u64::from(task.options.max_retry) + 1
}
