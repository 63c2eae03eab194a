//! Runs a simulated fleet: starts its nodes, triggers faults, and waits until everything is done.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{sleep, sleep_until, timeout},
};

use super::{
    Fault, Fleet, Strike,
    actor::{Actor, Surroundings},
    chance::below,
    clock::FleetClock,
    journal::{Entry, Event, Journal},
    ledger::Ledger,
    network::Network,
};
use crate::{
    ambient::simulated,
    broker::{
        BrokerError, DocumentSwap, Expect, NewTask, Put, QueueStats, SharedBroker, Space, TaskInfo,
    },
    inspector::Inspector,
    task::{Name, TaskId, TaskState, UniqueUntil},
    testing::enqueued::list_all,
};

/// How often to check whether all tasks have finished.
const CHECK: Duration = Duration::from_secs(1);

/// A node that does not stop within this long is killed.
const STOP_WITHIN: Duration = Duration::from_secs(300);

/// How long no fault is active before clients are stopped: longer than the delay of any call.
const CALM: Duration = Duration::from_secs(25);

/// What remains of a fleet when it has ended.
#[derive(Debug)]
pub(super) struct Remains {
    pub(super) entries: Vec<Entry>,
    /// The tasks in the store.
    pub(super) tasks: Vec<TaskInfo>,
    pub(super) stats: Vec<(Name, QueueStats)>,
    /// Unique keys that are held although no task that could hold them exists, each with the store's response.
    pub(super) locks: Vec<String>,
}

/// A running fleet.
struct Stage {
    clock: FleetClock,
    queues: Vec<Name>,
    around: Surroundings,
    nodes: Vec<Actor>,
}

/// Runs a fleet until all its tasks have finished. This thread must run a simulation.
pub(super) async fn drive(fleet: &Fleet) -> Result<Remains, BrokerError> {
    let clock = FleetClock::start();
    let _entered = simulated::enter(fleet.seed, Arc::new(clock.clone()));
    let stage = Arc::new(Stage::new(fleet, clock));
    let strikes = fleet.plan();
    let end = tokio::time::Instant::now() + fleet.lasts;
    let mut striking = JoinSet::new();
    for place in 0..stage.nodes.len() {
        let stage = Arc::clone(&stage);
        striking.spawn(async move {
            sleep(Duration::from_micros(below(200_000))).await;
            stage.nodes[place].start();
        });
    }
    for strike in strikes {
        striking.spawn(Arc::clone(&stage).strike(strike));
    }
    sleep_until(end).await;
    while striking.join_next().await.is_some() {}
    stage.calm_down();
    sleep(CALM).await;
    stage.stop(|actor| !actor.is_server).await;
    stage.resume().await?;
    stage.wait_for_the_end(fleet.patience).await?;
    stage.stop(|_| true).await;
    stage.remains().await
}

impl Stage {
    fn new(fleet: &Fleet, clock: FleetClock) -> Self {
        let journal = Journal::new(Arc::new(clock.clone()));
        let around = Surroundings {
            journal,
            network: Network::new(fleet.queues.clone()),
            store: (fleet.store)(clock.clone()),
        };
        let actor = |(place, (program, is_server)): (usize, &(_, bool))| {
            Actor::new(place, Clone::clone(program), *is_server, around.clone())
        };
        let nodes = fleet.programs.iter().enumerate().map(actor).collect();
        Self {
            clock,
            queues: fleet.queues.clone(),
            around,
            nodes,
        }
    }

    /// The inspector of an operator, whose connection never fails.
    fn inspector(&self) -> Inspector {
        Inspector::new(self.broker())
    }

    fn broker(&self) -> SharedBroker {
        Arc::new(Ledger {
            store: Arc::clone(&self.around.store),
            journal: self.around.journal.clone(),
            node: None,
        })
    }

    /// Triggers a fault at its time, and ends it.
    async fn strike(self: Arc<Self>, strike: Strike) {
        sleep(Duration::from_millis(strike.at)).await;
        let journal = &self.around.journal;
        journal.note_of(strike.node, Event::Begins(strike.clone()));
        let lasts = sleep(Duration::from_millis(strike.lasts));
        let node = strike.node.and_then(|node| self.nodes.get(node));
        match (strike.fault, node) {
            (Fault::Kill, Some(node)) => {
                if node.kill() {
                    lasts.await;
                    node.start();
                }
            }
            (Fault::Freeze, Some(node)) => {
                node.freeze(true);
                lasts.await;
                node.freeze(false);
            }
            (Fault::Restart, Some(node)) => {
                if self.stop_one(node).await {
                    lasts.await;
                    node.change_build();
                    node.start();
                }
            }
            (Fault::NodeClock, Some(node)) => {
                node.set_clock(strike.amount);
                lasts.await;
                node.set_clock(0);
            }
            (Fault::StoreClock, _) => self.clock.step(strike.amount),
            (Fault::Forget, _) => {
                // If the store fails, there is nothing to lose.
                let _ = self.forget().await;
            }
            _ => {
                self.around.network.start(&strike);
                lasts.await;
                self.around.network.end(&strike);
            }
        }
        journal.note_of(strike.node, Event::Ends(strike));
    }

    /// Loses what programs declare.
    async fn forget(&self) -> Result<(), BrokerError> {
        let store = &self.around.store;
        for space in [
            Space::Schedules,
            Space::ScheduleEvents,
            Space::Subscriptions,
            Space::Removals,
            Space::Marks,
        ] {
            let all = store.documents(space).await?.into_iter();
            let remove = |(name, _)| vec![DocumentSwap::new(space, name, Expect::Any, Put::Remove)];
            store.swap(all.map(remove).collect()).await?;
        }
        Ok(())
    }

    /// Requests a node to stop. Returns whether it was alive.
    async fn stop_one(&self, node: &Actor) -> bool {
        let Some(running) = node.stop() else {
            return false;
        };
        match timeout(STOP_WITHIN, running).await {
            Ok(ended) => {
                if ended.is_err() {
                    node.note(Event::Problem("a node panicked".into()));
                }
                node.note(Event::Stopped);
            }
            Err(_) => node.note(Event::Problem("a node did not stop".into())),
        }
        true
    }

    /// Requests nodes to stop, all together, and waits until they have.
    async fn stop(&self, which: impl Fn(&Actor) -> bool) {
        let nodes = self.nodes.iter().filter(|node| which(node));
        futures_util::future::join_all(nodes.map(|node| self.stop_one(node))).await;
    }

    /// Starts all nodes, and sets the clock to the latest time that it has shown: otherwise a task would wait for as
    /// long as the clock was wrong.
    fn calm_down(&self) {
        self.clock.catch_up();
        self.around.journal.note_of(None, Event::Calm);
        self.nodes.iter().for_each(Actor::start);
    }

    /// Resumes what operators have paused.
    async fn resume(&self) -> Result<(), BrokerError> {
        let inspector = self.inspector();
        // A queue that has had no task is not listed, but can be paused.
        let mut queues = inspector.queue_names().await?;
        queues.extend(self.queues.iter().cloned());
        inspector.resume(&queues).await?;
        for server in inspector.servers().await? {
            inspector.set_server_quiet(&server.name, false).await?;
        }
        Ok(())
    }

    /// Waits until no task remains to be run.
    async fn wait_for_the_end(&self, patience: Duration) -> Result<(), BrokerError> {
        let ended = async {
            while self.unfinished().await? > 0 {
                sleep(CHECK).await;
            }
            Ok(())
        };
        // Tasks that do not finish in time are among the remains.
        timeout(patience, ended).await.unwrap_or(Ok(()))
    }

    async fn unfinished(&self) -> Result<u64, BrokerError> {
        let store = &self.around.store;
        let stats = store.stats(&store.queues().await?).await?;
        let counts = stats.iter().flat_map(|stats| &stats.counts);
        let unfinished = counts
            .filter(|(state, _)| !matches!(state, TaskState::Completed | TaskState::Archived));
        Ok(unfinished.map(|(_, count)| count).sum())
    }

    /// Tries to take each lock that is held until its task succeeds: none may be held once all tasks have finished.
    async fn held_locks(&self, entries: &[Entry]) -> Result<Vec<String>, BrokerError> {
        let mut tried = HashSet::new();
        let mut held = Vec::new();
        for entry in entries {
            let Event::Enqueued(task, Ok(())) = &entry.event else {
                continue;
            };
            let Some(lock) = task.envelope.unique.as_deref() else {
                continue;
            };
            let key = (task.envelope.queue.clone(), lock.key.clone());
            if lock.until != UniqueUntil::Success || !tried.insert(key) {
                continue;
            }
            let mut another = NewTask::clone(task);
            another.envelope.id = TaskId::generate();
            another.tick = None;
            let answers = self.around.store.enqueue(vec![another]).await?;
            let conflicts = answers.into_iter().filter_map(Result::err);
            held.extend(conflicts.map(|conflict| conflict.to_string()));
        }
        Ok(held)
    }

    async fn remains(&self) -> Result<Remains, BrokerError> {
        let store = &self.around.store;
        let queues = store.queues().await?;
        let mut tasks = Vec::new();
        for queue in &queues {
            for state in TaskState::ALL {
                tasks.extend(list_all(&*self.broker(), queue, state).await?);
            }
        }
        let stats = store.stats(&queues).await?;
        let entries = self.around.journal.entries();
        let locks = self.held_locks(&entries).await?;
        Ok(Remains {
            entries,
            tasks,
            stats: queues.into_iter().zip(stats).collect(),
            locks,
        })
    }
}
