//! A simulated fleet of servers and clients: on one thread, in simulated time, from a seed, with faults.

mod actor;
mod chance;
mod clock;
mod drive;
mod fault;
mod journal;
mod judge;
mod ledger;
mod link;
mod network;
mod program;
mod promise;
mod report;
mod watch;

use std::{fmt, sync::Arc, time::Duration};

pub use self::{
    clock::FleetClock,
    fault::{Fault, Strike},
    journal::{Done, Ending, Entry, Event, Taken},
    program::Life,
    promise::{Broken, Promise},
    report::Report,
};
use self::{judge::Bounds, program::Program};
use crate::{broker::Store, memory::MemoryBroker, server::ServerBuilder, task::Name};

type MakeStore = Arc<dyn Fn(FleetClock) -> Arc<dyn Store> + Send + Sync>;

/// A fleet to simulate.
///
/// Its nodes are your own programs: servers with your handlers, producers, schedulers, anything that works with a
/// broker. Time is simulated, so an hour of faults takes a moment. The seed determines every fault, the ids, the jitter
/// and the order of responses: a seed that finds a fault finds it again.
///
/// ```
/// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
/// # #[task(event = "email:welcome", crate = asynqueue_core)]
/// # struct WelcomeEmail { user_id: u64 }
/// use asynqueue_core::{
///     process::{Context, Payload, TaskError},
///     producer::Producer,
///     server::Server,
///     testing::fleet::{Fault, Fleet},
/// };
/// use std::time::Duration;
///
/// async fn welcome(_: Payload<WelcomeEmail>, _: Context) -> Result<(), TaskError> {
///     Ok(())
/// }
///
/// for seed in 0..3 {
///     Fleet::new(seed)
///         .servers(3, |life| Server::builder(life.broker.clone()).process(welcome))
///         .client(|life| async move {
///             let producer = Producer::new(life.broker.clone());
///             for user_id in 0..20 {
///                 // After an error the task may have been accepted: the store's response may have been lost.
///                 let _ = producer.enqueue(WelcomeEmail { user_id }).await;
///                 life.pause(Duration::from_secs(2)).await;
///             }
///         })
///         .faults([Fault::Kill, Fault::Freeze, Fault::LostAnswers])
///         .run()
///         .assert_kept();
/// }
/// ```
///
/// The seed does not determine: threads that a program starts, the duration of code, and, unless the program is
/// compiled with `--cfg tokio_unstable`, which of several ready branches of a `select!` is polled first.
#[derive(Clone)]
#[must_use = "a fleet runs once `run` is called"]
pub struct Fleet {
    seed: u64,
    lasts: Duration,
    patience: Duration,
    bounds: Bounds,
    queues: Vec<Name>,
    programs: Vec<(Program, bool)>,
    faults: Vec<Fault>,
    strikes: Option<Vec<Strike>>,
    store: MakeStore,
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet")
            .field("seed", &self.seed)
            .field("lasts", &self.lasts)
            .field("nodes", &self.programs.len())
            .field("faults", &self.faults)
            .field("strikes", &self.strikes)
            .finish_non_exhaustive()
    }
}

impl Fleet {
    /// A fleet without nodes and faults, on a memory store.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            lasts: Duration::from_secs(60),
            patience: Duration::from_secs(3_600),
            bounds: Bounds {
                prompt: None,
                shutdown: Duration::from_secs(60),
            },
            queues: vec!["default".into()],
            programs: Vec::new(),
            faults: Vec::new(),
            strikes: None,
            store: Arc::new(|clock| Arc::new(MemoryBroker::with_clock(clock))),
        }
    }

    /// Adds nodes that each run a server. The closure creates the server for each life of a node.
    pub fn servers(
        mut self,
        count: usize,
        server: impl Fn(&Life) -> ServerBuilder + Send + Sync + 'static,
    ) -> Self {
        let program = Program::server(server);
        self.programs
            .extend(std::iter::repeat_n((program, true), count));
        self
    }

    /// Adds a node that runs your own program, such as a producer or a scheduler. The closure starts it for each life
    /// of the node, until it returns by itself. A program that is still running when the faults are over is [requested
    /// to stop](Life::stopping).
    pub fn client<F>(mut self, program: impl Fn(Life) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.programs.push((Program::new(program), false));
        self
    }

    /// Sets the kinds of faults. The seed determines their times and places: several of each per minute. Default: none.
    pub fn faults(mut self, faults: impl IntoIterator<Item = Fault>) -> Self {
        self.faults = faults.into_iter().collect();
        self
    }

    /// Sets the faults, instead of [those of the seed](Self::faults).
    pub fn strikes(mut self, strikes: impl IntoIterator<Item = Strike>) -> Self {
        self.strikes = Some(strikes.into_iter().collect());
        self
    }

    /// Sets how long faults happen, in simulated time. Default: a minute.
    pub fn lasting(mut self, lasts: Duration) -> Self {
        self.lasts = lasts;
        self
    }

    /// Sets how long tasks may take to finish after that, in simulated time. Default: an hour.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sets how soon a due task must start while no fault is active, which is then [promised](Promise::Prompt).
    /// Default: not checked, because handlers may keep all workers busy.
    pub fn prompt_within(mut self, prompt: Duration) -> Self {
        self.bounds.prompt = Some(prompt);
        self
    }

    /// Sets how long a server's shutdown may take, in simulated time. Default: a minute.
    pub fn shut_down_within(mut self, longest: Duration) -> Self {
        self.bounds.shutdown = longest;
        self
    }

    /// Sets the queues that can be [sick](Fault::SickQueue). Default: `default`.
    pub fn queues<N: Into<Name>>(mut self, queues: impl IntoIterator<Item = N>) -> Self {
        self.queues = queues.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the store, which uses the time of the clock. Default: a memory store.
    pub fn store<S: Store>(
        mut self,
        store: impl Fn(FleetClock) -> S + Send + Sync + 'static,
    ) -> Self {
        self.store = Arc::new(move |clock| Arc::new(store(clock)));
        self
    }

    /// The faults that will happen.
    pub fn plan(&self) -> Vec<Strike> {
        if let Some(strikes) = &self.strikes {
            return strikes.clone();
        }
        fault::plan(self.seed, &self.faults, self.lasts, self.programs.len())
    }

    /// Runs the fleet to its end, on a separate thread.
    ///
    /// # Panics
    ///
    /// When a program panics outside of a handler, a task is woken repeatedly so that time stands still, or the
    /// operating system cannot start a thread.
    pub fn run(&self) -> Report {
        report::run(self)
    }
}
