//! What happens after a failed attempt.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::Shared;
use crate::{
    ambient,
    broker::{LeaseToken, Outcome, Settlement},
    layer::discard,
    process::{Context, TaskError, TaskErrorKind},
    task::{Envelope, Failure, Timestamp},
    trace,
};

impl Shared {
    /// Returns the outcome of an attempt that ended in an error, after calling the error handler. `leased` is the task
    /// as it was leased; the context has it as it was started.
    pub(super) fn failed(
        &self,
        context: &Context,
        leased: &Arc<Envelope>,
        token: LeaseToken,
        error: &TaskError,
    ) -> Settlement {
        let counts = counts(context, error);
        if let (true, Some(on_error)) = (counts, &self.settings.on_error) {
            guarded("on_error", || on_error(context, error));
        }
        let now = self.broker.now();
        let mut settlement = after_error(context, token, error, counts, now);
        settlement.leased = Arc::clone(leased);
        let span = context.take_span();
        trace::carry_on(&span, &mut settlement);
        // Stopping on request is not a failure. Its outcome is logged when it is known.
        if !context.is_stopped() {
            let may_be_completed = context.has_completion();
            span.in_scope(|| self.log_attempt(&settlement, may_be_completed));
        }
        settlement
    }
}

/// Calls a callback of the application, and contains its panic.
pub(crate) fn guarded<R>(callback: &str, call: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => Some(result),
        Err(payload) => {
            discard(payload);
            tracing::error!(callback, "a callback panicked");
            None
        }
    }
}

/// Whether an error counts as an attempt.
pub(crate) fn counts(context: &Context, error: &TaskError) -> bool {
    match error.kind() {
        TaskErrorKind::Revoke | TaskErrorKind::Snooze(_) => false,
        TaskErrorKind::SkipRetry => true,
        TaskErrorKind::Retry | TaskErrorKind::RetryAfter(_) => {
            guarded("is_failure", || context.is_failure(error)).unwrap_or(true)
        }
    }
}

/// Decides what happens to a task whose attempt ended in `error` at the time `at`.
pub(crate) fn after_error(
    context: &Context,
    token: LeaseToken,
    error: &TaskError,
    counts: bool,
    at: Timestamp,
) -> Settlement {
    let failure = failure(context, error, at);
    after_failure(context.envelope(), token, error.kind(), failure, counts)
}

fn failure(context: &Context, error: &TaskError, at: Timestamp) -> Failure {
    Failure {
        attempt: context.attempt(),
        started: Some(context.started()),
        at,
        kind: error.failure_kind(),
        message: guarded("error message", || error.message())
            .unwrap_or_else(|| "(formatting the error panicked)".into()),
        backtrace: error.backtrace().map(str::to_owned),
        worker: Some(context.worker().clone()),
    }
}

/// Decides what happens to a task after `failure`. `counts` is whether it counts as an attempt.
pub(super) fn after_failure(
    envelope: &Arc<Envelope>,
    token: LeaseToken,
    kind: TaskErrorKind,
    failure: Failure,
    counts: bool,
) -> Settlement {
    let keep = |outcome| Settlement {
        leased: Arc::clone(envelope),
        envelope: Arc::clone(envelope),
        token,
        outcome,
        only_if_expired: false,
    };
    match kind {
        TaskErrorKind::Revoke => return keep(Outcome::Drop),
        TaskErrorKind::Snooze(delay) => return keep(Outcome::Snooze { delay }),
        TaskErrorKind::SkipRetry | TaskErrorKind::Retry | TaskErrorKind::RetryAfter(_) => {}
    }
    let attempt = failure.attempt;
    let leased = envelope;
    let mut envelope = Envelope::clone(leased);
    envelope.push_failure(failure);
    envelope.attempts = envelope.attempts.saturating_add(u32::from(counts));
    let delay = match kind {
        TaskErrorKind::RetryAfter(delay) => delay,
        _ => envelope.options.backoff.delay(attempt, ambient::random()),
    };
    let may_retry = kind != TaskErrorKind::SkipRetry && (!counts || envelope.may_retry());
    let outcome = if may_retry {
        Outcome::Retry { delay }
    } else {
        Outcome::Archive
    };
    Settlement {
        leased: Arc::clone(leased),
        envelope: Arc::new(envelope),
        token,
        outcome,
        only_if_expired: false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::{
        codec::{CodecName, MessagePack},
        task::{FailureKind, TaskId, TaskOptions},
    };

    fn settled(attempts: u32, max_retry: u32, kind: TaskErrorKind, counts: bool) -> Settlement {
        let mut envelope = Envelope::new(
            TaskId::generate(),
            "e",
            CodecName::of::<MessagePack>(),
            Bytes::new(),
        );
        envelope.attempts = attempts;
        envelope.options = Arc::new(TaskOptions {
            max_retry,
            ..TaskOptions::default()
        });
        let failure = Failure {
            attempt: attempts + 1,
            started: None,
            at: Timestamp::default(),
            kind: FailureKind::Error,
            message: "no".into(),
            backtrace: None,
            worker: None,
        };
        after_failure(&Arc::new(envelope), LeaseToken(1), kind, failure, counts)
    }

    #[test]
    fn a_task_is_retried_max_retry_times_and_then_archived() {
        for attempts in 0..3 {
            let settlement = settled(attempts, 3, TaskErrorKind::Retry, true);
            assert!(
                matches!(settlement.outcome, Outcome::Retry { .. }),
                "{attempts}"
            );
            assert_eq!(settlement.envelope.attempts, attempts + 1);
        }
        let last = settled(3, 3, TaskErrorKind::Retry, true);
        assert_eq!(last.outcome, Outcome::Archive);
        assert_eq!(last.envelope.failures().len(), 1);
    }

    #[test]
    fn an_error_that_does_not_count_is_retried_without_limit() {
        let settlement = settled(
            3,
            3,
            TaskErrorKind::RetryAfter(Duration::from_secs(7)),
            false,
        );
        assert_eq!(
            settlement.outcome,
            Outcome::Retry {
                delay: Duration::from_secs(7)
            }
        );
        assert_eq!(settlement.envelope.attempts, 3);
    }

    #[test]
    fn skip_retry_archives_immediately_and_revoke_and_snooze_leave_no_trace() {
        assert_eq!(
            settled(0, 3, TaskErrorKind::SkipRetry, true).outcome,
            Outcome::Archive
        );
        let delay = Duration::from_secs(1);
        let snoozed = settled(0, 3, TaskErrorKind::Snooze(delay), false);
        assert_eq!(
            (snoozed.outcome, snoozed.envelope.attempts),
            (Outcome::Snooze { delay }, 0)
        );
        assert_eq!(
            settled(0, 3, TaskErrorKind::Revoke, false).outcome,
            Outcome::Drop
        );
    }
}
