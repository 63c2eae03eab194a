//! What is announced after a commit, within this process: signals for servers, and the ends of tasks that callers wait
//! for. A store takes the notes to other processes.

use std::collections::HashMap;

use crate::sync::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{
    broker::{Finished, Signal},
    task::{Name, TaskRef, Timestamp},
};

/// Something to announce once it is committed.
#[derive(Clone, Debug)]
pub enum Announced {
    /// A signal of a queue.
    Signal(Name, Signal),
    /// A task has ended for which a process may wait.
    Ended {
        /// The task.
        task: TaskRef,
        /// Its end.
        end: Finished,
    },
    /// A task may have ended: a process that waits for it looks.
    MayHaveEnded(TaskRef),
    /// A queue was deleted with its tasks.
    QueueDeleted(Name),
}

/// What processes send each other. Everything in it is stored too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Note {
    /// [`Signal::Pending`].
    Pending(Name),
    /// [`Signal::Due`].
    Due(Name, Timestamp),
    /// [`Signal::Cancel`].
    Cancel(TaskRef),
    /// A task has ended, unless that was undone.
    Ended(TaskRef),
    /// A queue was deleted.
    QueueDeleted(Name),
}

/// What a waiter receives: the end of its task, or `None` to look for it in the store.
pub type Heard = Option<Finished>;

/// The listeners of this process.
#[derive(Debug, Default)]
pub struct Announcer {
    parts: Mutex<Parts>,
}

#[derive(Debug, Default)]
struct Parts {
    closed: bool,
    listeners: Vec<(Vec<Name>, mpsc::UnboundedSender<Signal>)>,
    waiters: HashMap<TaskRef, Vec<mpsc::UnboundedSender<Heard>>>,
}

impl Announcer {
    /// The signals of queues. Ends when the broker is closed.
    pub fn listen(&self, queues: &[Name]) -> mpsc::UnboundedReceiver<Signal> {
        let (sender, signals) = mpsc::unbounded_channel();
        let mut parts = self.parts.lock();
        if !parts.closed {
            parts
                .listeners
                .retain(|(_, listener)| !listener.is_closed());
            parts.listeners.push((queues.to_vec(), sender));
        }
        signals
    }

    /// What is heard of the end of a task. Ends when the broker is closed.
    pub fn wait(&self, task: &TaskRef) -> mpsc::UnboundedReceiver<Heard> {
        let (sender, heard) = mpsc::unbounded_channel();
        let mut parts = self.parts.lock();
        if !parts.closed {
            let waiters = parts.waiters.entry(task.clone()).or_default();
            waiters.retain(|waiter| !waiter.is_closed());
            waiters.push(sender);
        }
        heard
    }

    /// Forgets waiters that have stopped waiting.
    pub fn forget_gone(&self) {
        let waiters = &mut self.parts.lock().waiters;
        waiters.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.is_closed());
            !waiters.is_empty()
        });
    }

    /// Announces to this process what was committed, and returns what to send to others.
    pub fn announce(&self, events: Vec<Announced>) -> Vec<Note> {
        let mut parts = self.parts.lock();
        let notes = events.into_iter().filter_map(|event| parts.announce(event));
        notes.collect()
    }

    /// Takes what another process has announced.
    pub fn hear(&self, note: Note) {
        let mut parts = self.parts.lock();
        match note {
            Note::Pending(queue) => parts.signal(&queue, &Signal::Pending(queue.clone())),
            Note::Due(queue, at) => parts.signal(&queue, &Signal::Due(queue.clone(), at)),
            Note::Cancel(task) => parts.signal(&task.queue, &Signal::Cancel(task.clone())),
            Note::Ended(ended) => parts.look(|task| *task == ended),
            Note::QueueDeleted(queue) => parts.look(|task| task.queue == queue),
        }
    }

    /// Lets all listeners and waiters look for what they may have missed.
    pub fn look(&self) {
        let mut parts = self.parts.lock();
        parts.listeners.retain(|(queues, listener)| {
            let pending = |queue: &Name| listener.send(Signal::Pending(queue.clone())).is_ok();
            queues.iter().all(pending)
        });
        parts.look(|_| true);
    }

    /// Ends all streams.
    pub fn close(&self) {
        *self.parts.lock() = Parts {
            closed: true,
            ..Parts::default()
        };
    }
}

impl Parts {
    fn announce(&mut self, event: Announced) -> Option<Note> {
        match event {
            Announced::Signal(queue, signal) => {
                let note = match &signal {
                    Signal::Pending(queue) => Some(Note::Pending(queue.clone())),
                    Signal::Due(queue, at) => Some(Note::Due(queue.clone(), *at)),
                    Signal::Cancel(task) => Some(Note::Cancel(task.clone())),
                };
                self.signal(&queue, &signal);
                note
            }
            Announced::Ended { task, end } => {
                for waiter in self.waiters.remove(&task).into_iter().flatten() {
                    // Fails if it has stopped waiting.
                    let _ = waiter.send(Some(end.clone()));
                }
                Some(Note::Ended(task))
            }
            Announced::MayHaveEnded(ended) => {
                self.look(|task| *task == ended);
                Some(Note::Ended(ended))
            }
            Announced::QueueDeleted(queue) => {
                self.look(|task| task.queue == queue);
                Some(Note::QueueDeleted(queue))
            }
        }
    }

    fn signal(&mut self, queue: &Name, signal: &Signal) {
        self.listeners.retain(|(queues, listener)| {
            !queues.contains(queue) || listener.send(signal.clone()).is_ok()
        });
    }

    /// Lets waiters look for the end of their task.
    fn look(&self, concerns: impl Fn(&TaskRef) -> bool) {
        let concerned = self.waiters.iter().filter(|(task, _)| concerns(task));
        for waiter in concerned.flat_map(|(_, waiters)| waiters) {
            // Fails if it has stopped waiting.
            let _ = waiter.send(None);
        }
    }
}
