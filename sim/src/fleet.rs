//! Builds the fleet of a scenario.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use asynqueue_core::{
    inspector::{Action, Inspector},
    memory::MemoryBroker,
    producer::{CallOptions, Producer, ResultError},
    scheduler::{Entry, Scheduler},
    task::{Aggregate, Clock, Task, TaskRef, Timestamp},
    testing::fleet::{Broken, Fleet, FleetClock, Life, Promise, Report},
};
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use crate::{
    load::{Job, Limited, Member, New, News, Runs, Tick, Work, result_of, server},
    scenario::{Kind, Operation, Order, QUEUES, Scenario},
};

/// State that the clients of a fleet share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared {
    /// The accepted tasks.
    known: Arc<Mutex<Vec<TaskRef>>>,
    runs: Runs,
    /// Violations that clients have observed.
    broken: Arc<Mutex<Vec<Broken>>>,
}

/// A clock that also measures leases.
#[derive(Debug)]
struct WallClock(FleetClock);

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn elapsed(&self) -> Duration {
        self.now().since(Timestamp::default())
    }
}

/// Runs a scenario.
pub(crate) fn run(scenario: &Scenario) -> Report {
    let shared = Shared::default();
    let mut report = fleet(scenario, &shared).run();
    report.broken.append(&mut shared.broken.lock());
    crate::judge::judge(scenario, &mut report);
    report
}

fn fleet(scenario: &Scenario, shared: &Shared) -> Fleet {
    let mut fleet = Fleet::new(scenario.seed)
        .lasting(Duration::from_millis(scenario.lasts))
        .patience(Duration::from_secs(1_800))
        .shut_down_within(Duration::from_secs(45))
        .queues(QUEUES)
        .strikes(scenario.strikes.clone());
    if scenario.wall_leases {
        fleet = fleet.store(|clock| MemoryBroker::with_clock(WallClock(clock)));
    }
    if let Some(prompt) = scenario.prompt {
        fleet = fleet.prompt_within(Duration::from_millis(prompt));
    }
    for plan in &scenario.servers {
        let (plan, runs) = (plan.clone(), shared.runs.clone());
        fleet = fleet.servers(1, move |life| server(life, &plan, &runs));
    }
    for (place, orders) in scenario.producers.iter().enumerate() {
        let (orders, shared) = (Arc::new(orders.clone()), shared.clone());
        let done = Arc::new(AtomicUsize::new(0));
        fleet = fleet.client(move |life| {
            produce(
                life,
                place,
                Arc::clone(&orders),
                Arc::clone(&done),
                shared.clone(),
            )
        });
    }
    for (place, interval) in scenario.schedulers.iter().enumerate() {
        let interval = *interval;
        fleet = fleet.client(move |life| schedule(life, place, interval));
    }
    for operations in &scenario.operators {
        let (operations, shared) = (Arc::new(operations.clone()), shared.clone());
        fleet = fleet.client(move |life| operate(life, Arc::clone(&operations), shared.clone()));
    }
    fleet
}

/// Enqueues the orders that were not started in an earlier life.
async fn produce(
    life: Life,
    place: usize,
    orders: Arc<Vec<Order>>,
    done: Arc<AtomicUsize>,
    shared: Shared,
) {
    let producer = Producer::new(life.broker.clone());
    loop {
        let next = done.fetch_add(1, SeqCst);
        let Some(order) = orders.get(next) else {
            return;
        };
        sleep(Duration::from_millis(order.after)).await;
        let n = (place * 1_000 + next) as u64;
        place_order(&producer, order, n, life.build, &shared).await;
    }
}

async fn place_order(producer: &Producer, order: &Order, n: u64, build: usize, shared: &Shared) {
    let job = Job {
        n,
        acts: order.acts.clone(),
        note: (build > 0).then(|| "of build 1".into()),
    };
    match order.kind {
        Kind::Work => enqueue(producer, order, Work(job), n, shared).await,
        Kind::New => enqueue(producer, order, New(job), n, shared).await,
        Kind::Limited => enqueue(producer, order, Limited(job), n, shared).await,
        Kind::News => {
            let published = producer.publish(News(job)).await;
            if let Ok(published) = published
                && published.subscribers == 1
            {
                let what = format!("event {n} was published to one of two subscribers");
                shared.break_promise(Promise::Published, what);
            }
        }
        Kind::Member => {
            let limits = Aggregate::DEFAULT
                .grace(Duration::from_secs(1))
                .max_delay(Duration::from_secs(4))
                .max_size(5);
            let member = producer.enqueue(Member(job)).queue(QUEUES[order.queue]);
            let _ = member.aggregate(limits).await;
        }
    }
}

async fn enqueue<T>(producer: &Producer, order: &Order, task: T, n: u64, shared: &Shared)
where
    T: Task<Output = Vec<u64>>,
{
    let millis = Duration::from_millis;
    let mut call = producer
        .enqueue(task)
        .queue(QUEUES[order.queue])
        .priority(order.priority)
        .max_retry(order.max_retry)
        .timeout(millis(order.timeout))
        .backoff(asynqueue_core::task::Backoff::Fixed(millis(500)));
    if order.delay > 0 {
        call = call.delay(millis(order.delay));
    }
    if let Some(unique) = order.unique {
        call = call
            .unique(Duration::from_secs(30))
            .unique_key(format!("key-{unique}"));
    }
    if let Some(expires) = order.expires {
        call = call.expires_in(millis(order.delay + expires));
    }
    if let Some(deadline) = order.deadline {
        call = call.deadline(millis(order.delay + deadline));
    }
    if order.retention > 0 {
        call = call.retention(millis(order.retention));
    }
    if order.waits {
        let result = timeout(Duration::from_secs(20), call.result()).await;
        shared.check_result(n, result.ok());
    } else if let Ok(handle) = call.await {
        shared.known.lock().push(handle.task_ref().clone());
    }
}

impl Shared {
    fn break_promise(&self, promise: Promise, what: String) {
        self.broken.lock().push(Broken::new(promise, what));
    }

    fn check_result(&self, n: u64, result: Option<Result<Vec<u64>, ResultError>>) {
        if let Some(Ok(result)) = result
            && result != result_of(n)
        {
            let what = format!("task {n} returned {result:?}");
            self.break_promise(Promise::Result, what);
        }
    }

    /// One of the known tasks.
    fn task(&self, number: u64) -> Option<TaskRef> {
        let known = self.known.lock();
        let place = number as usize % known.len().max(1);
        known.get(place).cloned()
    }
}

async fn schedule(life: Life, place: usize, interval: u64) {
    let options = |call: CallOptions| call.queue(QUEUES[place % QUEUES.len()]);
    loop {
        let rule = format!("@every {interval}s");
        let entry = match Entry::new(&format!("entry-{place}"), &rule, Tick(interval)) {
            Ok(entry) => entry.options(options),
            Err(error) => return life.note(format!("invalid entry: {error}")),
        };
        let scheduler = Scheduler::builder(life.broker.clone()).entry(entry);
        match scheduler.start().await {
            Ok(scheduler) => {
                life.stopping().await;
                return scheduler.shutdown().await;
            }
            Err(_) => life.pause(Duration::from_secs(3)).await,
        }
    }
}

async fn operate(life: Life, operations: Arc<Vec<Operation>>, shared: Shared) {
    let inspector = Inspector::new(life.broker.clone());
    for operation in operations.iter() {
        apply(&inspector, *operation, &shared).await;
    }
}

/// Errors are ignored, because the ledger contains what the store has changed.
async fn apply(inspector: &Inspector, operation: Operation, shared: &Shared) {
    let reason = || "simulated".to_owned();
    let (task, action) = match operation {
        Operation::Wait(time) => return sleep(Duration::from_millis(time)).await,
        Operation::Pause(queue) => return drop(inspector.pause(&[QUEUES[queue].into()]).await),
        Operation::Resume(queue) => return drop(inspector.resume(&[QUEUES[queue].into()]).await),
        Operation::Quiet(server, quiet) => {
            let Ok(servers) = inspector.servers().await else {
                return;
            };
            if let Some(server) = servers.get(server) {
                let _ = inspector.set_server_quiet(&server.name, quiet).await;
            }
            return;
        }
        Operation::Cancel(task) => (task, Action::Cancel(reason())),
        Operation::Delete(task) => (task, Action::Delete),
        Operation::RunNow(task) => (task, Action::RunNow),
        Operation::Retry(task) => (task, Action::Retry),
        Operation::Archive(task) => (task, Action::Archive(reason())),
        Operation::Edit(task) => {
            let payload = serde_json::json!({"n": task, "acts": ["ok"]});
            (task, Action::EditPayload(payload))
        }
        Operation::Move(task, queue) => (task, Action::MoveTo(QUEUES[queue].into())),
    };
    if let Some(task) = shared.task(task) {
        let _ = inspector.apply(&action, &[task]).await;
    }
}
