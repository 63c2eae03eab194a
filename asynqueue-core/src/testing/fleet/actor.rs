//! A node of a running fleet, across all of its lives.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::SeqCst},
};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    Life,
    chance::chance,
    journal::{Event, Journal},
    ledger::Ledger,
    link::Link,
    network::Network,
    program::Program,
};
use crate::{ambient::node::Node, broker::Store, sync::Mutex};

/// What the fleet provides to a node.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    pub(super) journal: Journal,
    pub(super) network: Network,
    pub(super) store: Arc<dyn Store>,
}

#[derive(Debug)]
pub(super) struct Actor {
    place: usize,
    program: Program,
    /// Whether it serves until it is stopped at the end.
    pub(super) is_server: bool,
    around: Surroundings,
    /// The error of its copy of the store's time, in milliseconds.
    pub(super) clock_error: Arc<AtomicI64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    lives: usize,
    build: usize,
    current: Option<Current>,
}

/// The current life.
#[derive(Debug)]
struct Current {
    node: Arc<Node>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Actor {
    pub(super) fn new(
        place: usize,
        program: Program,
        is_server: bool,
        around: Surroundings,
    ) -> Self {
        Self {
            place,
            program,
            is_server,
            around,
            clock_error: Arc::default(),
            state: Mutex::default(),
        }
    }

    /// Starts its next life, unless it is alive.
    pub(super) fn start(&self) {
        let mut state = self.state.lock();
        if state.current.is_some() {
            return;
        }
        let Surroundings {
            journal,
            network,
            store,
        } = self.around.clone();
        let ledger = Ledger {
            store,
            journal: journal.clone(),
            node: Some(self.place),
        };
        let link = Link::new(self.place, ledger, network, Arc::clone(&self.clock_error));
        let (node, stop) = (Node::new(self.place), CancellationToken::new());
        let life = Life {
            broker: Arc::new(link),
            node: self.place,
            number: state.lives,
            build: state.build,
            stop: stop.clone(),
            journal,
        };
        self.note(Event::Started {
            life: life.number,
            build: life.build,
        });
        state.lives += 1;
        let running = tokio::spawn(node.host(self.program.start(life)));
        state.current = Some(Current {
            node,
            stop,
            running,
        });
    }

    pub(super) fn freeze(&self, frozen: bool) {
        if let Some(current) = &self.state.lock().current {
            match frozen {
                true => current.node.freeze(),
                false => current.node.thaw(),
            }
        }
    }

    /// Kills it, unless its program has ended. Returns whether it was alive.
    pub(super) fn kill(&self) -> bool {
        let mut state = self.state.lock();
        let Some(current) = state
            .current
            .take_if(|current| !current.running.is_finished())
        else {
            return false;
        };
        current.node.kill();
        self.note(Event::Killed);
        true
    }

    /// Selects another build for its next life: usually the next one, sometimes the previous one.
    pub(super) fn change_build(&self) {
        let mut state = self.state.lock();
        state.build = match state.build {
            build @ 1.. if chance(30) => build - 1,
            build => build + 1,
        };
    }

    /// Requests it to stop. Returns a handle that completes once it has. `None` if it is not alive.
    pub(super) fn stop(&self) -> Option<JoinHandle<()>> {
        let mut state = self.state.lock();
        let current = state
            .current
            .take_if(|current| !current.running.is_finished())?;
        self.note(Event::Stopping);
        current.node.thaw();
        current.stop.cancel();
        Some(current.running)
    }

    pub(super) fn set_clock(&self, error: i64) {
        self.clock_error.store(error, SeqCst);
    }

    pub(super) fn note(&self, event: Event) {
        self.around.journal.note_of(Some(self.place), event);
    }
}
