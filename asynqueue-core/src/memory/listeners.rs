//! Listeners for signals, and waiters for the ends of tasks.

use std::collections::HashMap;

use tokio::sync::{mpsc, oneshot};

use crate::{
    broker::{Finished, Signal},
    task::TaskId,
};

#[derive(Debug, Default)]
pub(super) struct Listeners {
    listening: Vec<mpsc::UnboundedSender<Signal>>,
    waiting: HashMap<TaskId, Vec<oneshot::Sender<Finished>>>,
}

impl Listeners {
    pub(super) fn listen(&mut self, listener: mpsc::UnboundedSender<Signal>) {
        self.listening.retain(|listener| !listener.is_closed());
        self.listening.push(listener);
    }

    pub(super) fn signal(&mut self, signal: &Signal) {
        self.listening
            .retain(|listener| listener.send(signal.clone()).is_ok());
    }

    pub(super) fn wait(&mut self, id: &TaskId) -> oneshot::Receiver<Finished> {
        let (waiter, finished) = oneshot::channel();
        let waiters = self.waiting.entry(id.clone()).or_default();
        waiters.retain(|waiter| !waiter.is_closed());
        waiters.push(waiter);
        finished
    }

    /// Notifies the waiters of a task, of which there are usually none, that it has finished.
    pub(super) fn notify(&mut self, id: &TaskId, finished: impl Fn() -> Finished) {
        if self.waiting.is_empty() {
            return;
        }
        for waiter in self.waiting.remove(id).into_iter().flatten() {
            // Fails if the waiter has stopped waiting.
            let _ = waiter.send(finished());
        }
    }

    /// Removes waiters that have stopped waiting.
    pub(super) fn remove_gone(&mut self) {
        self.waiting
            .retain(|_, waiters| waiters.iter().any(|waiter| !waiter.is_closed()));
    }

    /// Disconnects all listeners and waiters.
    pub(super) fn disconnect(&mut self) {
        self.listening.clear();
        self.waiting.clear();
    }
}
