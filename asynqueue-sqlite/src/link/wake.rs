//! What is announced after a commit, in this process and in the others that use the file.

use std::{path::PathBuf, sync::Arc};

use asynqueue_core::{
    broker::{
        Signal,
        kit::{Announced, Announcer as Local, Heard},
    },
    task::{Name, TaskRef},
};
use tokio::sync::mpsc;

use super::peers::Peers;

/// The listeners of this process, and the way to those of others.
pub(crate) struct Announcer {
    local: Arc<Local>,
    /// None in memory.
    peers: Option<Peers>,
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
        self.local.listen(queues)
    }

    /// What is heard of the end of a task. Ends when the broker is closed.
    pub(crate) fn wait(&self, task: &TaskRef) -> mpsc::UnboundedReceiver<Heard> {
        self.hear_peers();
        self.local.wait(task)
    }

    fn hear_peers(&self) {
        if let Some(peers) = &self.peers {
            peers.listen();
        }
    }

    /// Forgets waiters that have stopped waiting.
    pub(crate) fn forget_gone(&self) {
        self.local.forget_gone();
    }

    /// Announces what was committed.
    pub(crate) fn announce(&self, events: Vec<Announced>) {
        if events.is_empty() {
            return;
        }
        let notes = self.local.announce(events);
        if let Some(peers) = &self.peers {
            peers.send(&notes);
        }
    }

    pub(crate) fn close(&self) {
        self.local.close();
        if let Some(peers) = &self.peers {
            peers.close();
        }
    }
}
