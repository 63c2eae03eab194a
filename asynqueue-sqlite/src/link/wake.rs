//! What is announced after a commit: signals for servers, and the ends of tasks that callers wait for, in this process
//! and in the others that use the file.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use asynqueue_core::{
    broker::{Finished, Signal},
    task::{Name, TaskRef, Timestamp},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::peers::Peers;
use crate::change::Event;

/// What a waiter receives: the end of its task, or `None` to look for it in the tables.
pub(crate) type Heard = Option<Finished>;

/// The listeners of this process, and the way to those of others.
pub(crate) struct Announcer {
    local: Arc<Local>,
    /// None in memory.
    peers: Option<Peers>,
}

#[derive(Default)]
struct Local {
    parts: Mutex<Parts>,
}

#[derive(Default)]
struct Parts {
    closed: bool,
    listeners: Vec<(Vec<Name>, mpsc::UnboundedSender<Signal>)>,
    waiters: HashMap<TaskRef, Vec<mpsc::UnboundedSender<Heard>>>,
}

/// What processes send each other. Everything in it is in the tables too.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Note {
    Pending(Name),
    Due(Name, Timestamp),
    Cancel(TaskRef),
    Ended(TaskRef),
    QueueDeleted(Name),
}

impl Announcer {
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        let local = Arc::<Local>::default();
        let peers = folder.map(|folder| {
            let local = Arc::downgrade(&local);
            Peers::new(folder, move |note| {
                if let Some(local) = local.upgrade() {
                    local.hear(note);
                }
            })
        });
        Self { local, peers }
    }

    /// The signals of queues, from this process and others. Ends when the broker is closed.
    pub(crate) fn listen(&self, queues: &[Name]) -> mpsc::UnboundedReceiver<Signal> {
        self.hear_peers();
        let (sender, signals) = mpsc::unbounded_channel();
        let mut parts = self.local.parts.lock();
        if !parts.closed {
            parts
                .listeners
                .retain(|(_, listener)| !listener.is_closed());
            parts.listeners.push((queues.to_vec(), sender));
        }
        signals
    }

    /// What is heard of the end of a task. Ends when the broker is closed.
    pub(crate) fn wait(&self, task: &TaskRef) -> mpsc::UnboundedReceiver<Heard> {
        self.hear_peers();
        let (sender, heard) = mpsc::unbounded_channel();
        let mut parts = self.local.parts.lock();
        if !parts.closed {
            let waiters = parts.waiters.entry(task.clone()).or_default();
            waiters.retain(|waiter| !waiter.is_closed());
            waiters.push(sender);
        }
        heard
    }

    fn hear_peers(&self) {
        if let Some(peers) = &self.peers {
            peers.listen();
        }
    }

    /// Forgets waiters that have stopped waiting.
    pub(crate) fn forget_gone(&self) {
        let waiters = &mut self.local.parts.lock().waiters;
        waiters.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.is_closed());
            !waiters.is_empty()
        });
    }

    /// Announces what was committed.
    pub(crate) fn announce(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let mut parts = self.local.parts.lock();
        let notes: Vec<_> = events
            .into_iter()
            .filter_map(|event| parts.announce(event))
            .collect();
        drop(parts);
        if let Some(peers) = &self.peers {
            peers.send(&notes);
        }
    }

    pub(crate) fn close(&self) {
        let mut parts = self.local.parts.lock();
        *parts = Parts {
            closed: true,
            ..Parts::default()
        };
        drop(parts);
        if let Some(peers) = &self.peers {
            peers.close();
        }
    }
}

impl Parts {
    /// Announces to this process, and returns what to send to others.
    fn announce(&mut self, event: Event) -> Option<Note> {
        match event {
            Event::Signal(queue, signal) => {
                let note = match &signal {
                    Signal::Pending(queue) => Some(Note::Pending(queue.clone())),
                    Signal::Due(queue, at) => Some(Note::Due(queue.clone(), *at)),
                    Signal::Cancel(task) => Some(Note::Cancel(task.clone())),
                    _ => None,
                };
                self.signal(&queue, &signal);
                note
            }
            Event::Ended { task, end } => {
                for waiter in self.waiters.remove(&task).into_iter().flatten() {
                    // Fails if it has stopped waiting.
                    let _ = waiter.send(Some(end.clone()));
                }
                Some(Note::Ended(task))
            }
            Event::QueueDeleted(queue) => {
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

impl Local {
    /// Takes what another process has announced.
    fn hear(&self, note: Note) {
        let mut parts = self.parts.lock();
        match note {
            Note::Pending(queue) => parts.signal(&queue, &Signal::Pending(queue.clone())),
            Note::Due(queue, at) => parts.signal(&queue, &Signal::Due(queue.clone(), at)),
            Note::Cancel(task) => parts.signal(&task.queue, &Signal::Cancel(task.clone())),
            Note::Ended(ended) => parts.look(|task| *task == ended),
            Note::QueueDeleted(queue) => parts.look(|task| task.queue == queue),
        }
    }
}
