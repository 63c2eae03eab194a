//! Records when handlers start and end attempts.

use tower_layer::Layer;

use super::journal::{Done, Event, Journal};
use crate::{
    layer::{BoxProcess, TaskService},
    task::TaskRef,
};

/// A layer around all handlers of a server.
#[derive(Clone, Debug)]
pub(super) struct Watch(pub(super) Journal);

impl<S: TaskService> Layer<S> for Watch {
    type Service = BoxProcess;

    fn layer(&self, inner: S) -> BoxProcess {
        let (inner, journal) = (inner.boxed(), self.0.clone());
        BoxProcess::from_fn(move |request| {
            let context = &request.context;
            let mut attempt = Attempt {
                journal: journal.clone(),
                task: context.task_ref(),
                attempt: context.attempt(),
                how: Done::Dropped,
            };
            let run = inner.run(request);
            Box::pin(async move {
                attempt.note(Event::Began);
                let output = run.await;
                attempt.end(output.is_ok());
                output
            })
        })
    }
}

/// A running attempt.
struct Attempt {
    journal: Journal,
    task: TaskRef,
    attempt: u32,
    how: Done,
}

impl Attempt {
    fn end(&mut self, is_ok: bool) {
        self.how = if is_ok { Done::Ok } else { Done::Failed };
    }

    fn note(&self, event: impl FnOnce(TaskRef, u32) -> Event) {
        self.journal.note(event(self.task.clone(), self.attempt));
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let how = self.how;
        self.note(|task, attempt| Event::Done(task, attempt, how));
    }
}
