//! The programs of the nodes of a simulated fleet.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    journal::{Event, Journal},
    watch::Watch,
};
use crate::{
    ambient::node::block_until,
    broker::SharedBroker,
    server::{ServerBuilder, ServerError},
    testing::fleet::chance::below,
};

/// One life of a node: from its start to its shutdown or death.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Life {
    /// The store, through this node's connection.
    pub broker: SharedBroker,
    /// The node's index in the fleet, from 0.
    pub node: usize,
    /// The number of this life, from 0.
    pub number: usize,
    /// The deployed build of the program: 0 at first, and another one after each [restart](super::Fault::Restart).
    pub build: usize,
    pub(super) stop: CancellationToken,
    pub(super) journal: Journal,
}

impl Life {
    /// Completes when the node is requested to stop.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Adds a note to the trace.
    pub fn note(&self, note: impl Into<String>) {
        self.journal.note(Event::Note(note.into()));
    }

    /// A random number below `end`, from the fleet's seed.
    ///
    /// # Panics
    ///
    /// When `end` is zero.
    pub fn below(&self, end: u64) -> u64 {
        below(end)
    }

    /// Blocks the thread of the calling handler for this long, like blocking code: the handler cannot be cancelled,
    /// abandoned or dropped before. Threads are simulated: the others continue.
    pub async fn block(time: Duration) {
        block_until(Instant::now() + time).await;
    }

    /// Waits for up to this long, as determined by the seed.
    pub async fn pause(&self, longest: Duration) {
        let micros = longest.as_micros() as u64;
        tokio::time::sleep(Duration::from_micros(below(micros.max(1)))).await;
    }
}

/// The maximum time until a server that could not reach its broker is started again.
const RESTART_AFTER: Duration = Duration::from_secs(5);

/// Starts a life.
#[derive(Clone)]
pub(super) struct Program(Arc<dyn Fn(Life) -> BoxFuture<'static, ()> + Send + Sync>);

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Program")
    }
}

impl Program {
    pub(super) fn new<F>(program: impl Fn(Life) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self(Arc::new(move |life| program(life).boxed()))
    }

    /// A program that runs a server, and shuts it down when requested.
    pub(super) fn server(server: impl Fn(&Life) -> ServerBuilder + Send + Sync + 'static) -> Self {
        let server = Arc::new(server);
        Self::new(move |life| {
            let server = Arc::clone(&server);
            serve(life, move |life| server(life))
        })
    }

    pub(super) fn start(&self, life: Life) -> BoxFuture<'static, ()> {
        (self.0)(life)
    }
}

async fn serve(life: Life, server: impl Fn(&Life) -> ServerBuilder) {
    let server = loop {
        match server(&life)
            .layer(Watch(life.journal.clone()))
            .start()
            .await
        {
            Ok(server) => break server,
            // Like a supervisor.
            Err(ServerError::Broker(_)) => life.pause(RESTART_AFTER).await,
            Err(error) => {
                let problem = format!("could not build a server: {error}");
                life.journal.note(Event::Problem(problem));
                return;
            }
        }
        if life.stop.is_cancelled() {
            return;
        }
    };
    life.stopping().await;
    let requested = Instant::now();
    if let Err(error) = server.shutdown().await {
        let problem = format!("a server ended with an error: {error}");
        life.journal.note(Event::Problem(problem));
    }
    life.journal.note(Event::ShutDown(requested.elapsed()));
}
