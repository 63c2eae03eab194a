//! A fault of the server's set-up that shows only when a task runs, in the log.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::{Context, MissingState, Payload, Process, ServerState, TaskError};
use crate::task::{FailureKind, Task};

/// A process whose first lack of a shared value is logged: every task meets the same, so one line says it all.
pub(crate) struct Noted<P> {
    process: P,
    is_noted: AtomicBool,
}

impl<P> Noted<P> {
    pub(crate) fn new(process: P) -> Self {
        let is_noted = AtomicBool::new(false);
        Self { process, is_noted }
    }
}

impl<T: Task, P: Process<T>> Process<T> for Noted<P> {
    fn event_name(&self) -> &str {
        self.process.event_name()
    }

    async fn handle(&self, task: Payload<T>, ctx: &Context) -> Result<T::Output, TaskError> {
        let result = self.process.handle(task, ctx).await;
        if let Err(error) = &result
            && error.failure_kind() == FailureKind::MissingState
            && !self.is_noted.swap(true, Relaxed)
        {
            tracing::error!(event = %ctx.event(), %error,
                "a handler needs shared state that this server does not have: until a server has it, the tasks of \
                 this event are retried without counting an attempt");
        }
        result
    }

    fn check_state(&self, state: &ServerState) -> Result<(), MissingState> {
        self.process.check_state(state)
    }
}
