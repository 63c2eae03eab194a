//! Those who listen for signals, and those who wait for a task's end.

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

    /// Tells those who wait for a task, of whom there are usually none, how it has ended.
    pub(super) fn tell(&mut self, id: &TaskId, finished: impl Fn() -> Finished) {
        if self.waiting.is_empty() {
            return;
        }
        for waiter in self.waiting.remove(id).into_iter().flatten() {
            // One that has stopped waiting has nothing to be told.
            let _ = waiter.send(finished());
        }
    }

    /// Forgets those who have stopped waiting.
    pub(super) fn forget_gone(&mut self) {
        self.waiting
            .retain(|_, waiters| waiters.iter().any(|waiter| !waiter.is_closed()));
    }

    /// Lets go of everyone.
    pub(super) fn hang_up(&mut self) {
        self.listening.clear();
        self.waiting.clear();
    }
}
