//! A fleet of servers and clients on one thread, in simulated time, from a seed, with faults.

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

/// A fleet to be simulated.
///
/// Its nodes are programs of your own: servers with your processes, producers, schedulers, whatever works with a broker. Time is
/// simulated, so an hour of faults takes a moment. Every fault comes from the seed, as do the ids, the jitter and the order of the
/// answers: a seed that shows a fault shows it again.
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
///                 // An error here is one that the store's answer got lost for: the task may have been accepted.
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
/// What is not the seed's to decide: threads that a program starts, the time that code takes, and, unless the program is compiled
/// with `--cfg tokio_unstable`, which of several branches of a `select!` that are ready at once is polled first.
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
    /// A fleet without nodes and faults, on a store in memory.
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

    /// Adds nodes that run a server each. The closure makes the server anew for each of a node's lives.
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

    /// Adds a node that runs a program of your own, such as a producer or a scheduler. The closure starts it anew for each of the node's
    /// lives, until one has returned by itself. One that runs on is [asked to stop](Life::stopping) when the faults are over.
    pub fn client<F>(mut self, program: impl Fn(Life) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.programs.push((Program::new(program), false));
        self
    }

    /// The kinds of faults that strike, at times and places that the seed decides: several of each in a minute. Default: none.
    pub fn faults(mut self, faults: impl IntoIterator<Item = Fault>) -> Self {
        self.faults = faults.into_iter().collect();
        self
    }

    /// The faults that strike, instead of [those of the seed](Self::faults).
    pub fn strikes(mut self, strikes: impl IntoIterator<Item = Strike>) -> Self {
        self.strikes = Some(strikes.into_iter().collect());
        self
    }

    /// For how long faults strike, in simulated time. Default: a minute.
    pub fn lasting(mut self, lasts: Duration) -> Self {
        self.lasts = lasts;
        self
    }

    /// How long tasks may take to come to an end after that, in simulated time. Default: an hour.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How soon a task that is due is to start while no fault strikes, which is then [promised](Promise::Prompt). Default: it is not
    /// looked at, since handlers may keep all slots busy.
    pub fn prompt_within(mut self, prompt: Duration) -> Self {
        self.bounds.prompt = Some(prompt);
        self
    }

    /// How long a server's shutdown may take, in simulated time. Default: a minute.
    pub fn shut_down_within(mut self, longest: Duration) -> Self {
        self.bounds.shutdown = longest;
        self
    }

    /// The queues of which one can be [sick](Fault::SickQueue). Default: `default`.
    pub fn queues<N: Into<Name>>(mut self, queues: impl IntoIterator<Item = N>) -> Self {
        self.queues = queues.into_iter().map(Into::into).collect();
        self
    }

    /// The store, which takes its time from the clock. Default: one in memory.
    pub fn store<S: Store>(
        mut self,
        store: impl Fn(FleetClock) -> S + Send + Sync + 'static,
    ) -> Self {
        self.store = Arc::new(move |clock| Arc::new(store(clock)));
        self
    }

    /// The faults that will strike.
    pub fn plan(&self) -> Vec<Strike> {
        if let Some(strikes) = &self.strikes {
            return strikes.clone();
        }
        fault::plan(self.seed, &self.faults, self.lasts, self.programs.len())
    }

    /// Runs it to its end, on a thread of its own.
    ///
    /// # Panics
    ///
    /// When a program panics outside of a handler, a task is woken again and again so that time stands still, or the operating system has
    /// no thread left.
    pub fn run(&self) -> Report {
        report::run(self)
    }
}
