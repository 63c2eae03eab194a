//! Logs missing shared state that shows only when a task runs.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::{Context, MissingState, Payload, Process, ServerState, TaskError};
use crate::task::{FailureKind, Task};

/// A handler whose first error of missing state is logged. Every task fails the same way, so one line is enough.
pub(crate) struct LogMissingState<P> {
    process: P,
    is_logged: AtomicBool,
}

impl<P> LogMissingState<P> {
    pub(crate) fn new(process: P) -> Self {
        let is_logged = AtomicBool::new(false);
        Self { process, is_logged }
    }
}

impl<T: Task, P: Process<T>> Process<T> for LogMissingState<P> {
    fn event_name(&self) -> &str {
        self.process.event_name()
    }

    async fn handle(&self, task: Payload<T>, ctx: &Context) -> Result<T::Output, TaskError> {
        let result = self.process.handle(task, ctx).await;
        if let Err(error) = &result
            && error.failure_kind() == FailureKind::MissingState
            && !self.is_logged.swap(true, Relaxed)
        {
            tracing::error!(event = %ctx.event(), %error,
                "a handler needs shared state that this server does not have; the tasks of this event are retried without \
                 counting an attempt until a server has it: pass the value to `.state(…)`");
        }
        result
    }

    fn check_state(&self, state: &ServerState) -> Result<(), MissingState> {
        self.process.check_state(state)
    }
}
