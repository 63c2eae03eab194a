//! A busy system with its own storage and a monitor.

use std::time::Duration;

use asynqueue_core::{
    broker::{HourStats, SharedBroker, TaskInfo},
    failure::Fingerprint,
    inspector::Inspector,
    process::{Context, Payload, TaskError},
    producer::Producer,
    scheduler::{Entry, Scheduler, SchedulerHandle, Timetable},
    server::{Server, ServerHandle},
    task::{FailureKind, TaskId, TaskRef, TaskState},
};
use asynqueue_macros::Task;
use asynqueue_monitor::{Endpoint, Monitor};
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_sqlite::{SqliteBroker, SqliteOptions};
use asynqueue_test_servers::{RedisServer, eventually};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

const AN_HOUR: Duration = Duration::from_secs(3600);

/// Runs a script if a page does not escape it.
pub(crate) const HOSTILE: &str = "<img/src=x/onerror=window.hacked=1>";

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:send", queue = "billing", retention = "1h", max_retry = 2, crate = asynqueue_core)]
pub(crate) struct Email {
    pub(crate) to: String,
}

#[derive(Serialize, Deserialize, Task)]
#[task(event = "report:build", queue = "reports", max_retry = 2, crate = asynqueue_core)]
pub(crate) struct Report {
    pub(crate) pages: u64,
}

#[derive(Serialize, Deserialize, Task)]
#[task(event = "news:item", queue = "news", crate = asynqueue_core)]
#[task(aggregate(grace = "30m", max_delay = "1h", max_size = 100))]
pub(crate) struct News {
    pub(crate) text: String,
}

#[derive(Serialize, Deserialize, Task)]
#[task(event = "news:digest", queue = "news", crate = asynqueue_core)]
struct Digest {
    texts: Vec<String>,
}

#[derive(Serialize, Deserialize, Task)]
#[task(event = "order:placed", crate = asynqueue_core)]
struct OrderPlaced {
    order: u64,
}

pub(super) async fn send(email: Payload<Email>, _: Context) -> Result<(), TaskError> {
    match email.to.as_str() {
        "refused" => Err(TaskError::skip_retry("550 no such mailbox")),
        "busy" => Err(TaskError::retry_after(AN_HOUR, "421 try again later")),
        "hostile" => Err(TaskError::skip_retry(HOSTILE)),
        _ => Ok(()),
    }
}

/// Runs until it is cancelled.
async fn build(report: Payload<Report>, context: Context) -> Result<(), TaskError> {
    context.progress(report.pages / 3, report.pages, "drawing charts");
    context.cancelled().await;
    Err(TaskError::retry("stopped"))
}

async fn digest(_: Payload<Digest>, _: Context) -> Result<(), TaskError> {
    Ok(())
}

async fn bill(_: Payload<OrderPlaced>, _: Context) -> Result<(), TaskError> {
    Ok(())
}

pub(crate) struct System {
    pub(crate) broker: SharedBroker,
    pub(crate) inspector: Inspector,
    pub(crate) producer: Producer,
    pub(crate) endpoint: Endpoint,
    path: String,
    /// The host name in URLs, in place of the address.
    pub(crate) host: Option<&'static str>,
    _server: ServerHandle,
    _scheduler: SchedulerHandle,
    // Last, so that it is dropped last.
    storage: Storage,
}

/// Where the tasks are.
enum Storage {
    Redis(Box<RedisServer>),
    File(#[expect(dead_code, reason = "it is deleted when it is dropped")] TempDir),
}

impl System {
    pub(crate) async fn start() -> Self {
        Self::of(|monitor| monitor).await
    }

    pub(crate) async fn of(monitor: impl FnOnce(Monitor) -> Monitor) -> Self {
        let system = Self::typical(monitor).await;
        system.add_hostile().await;
        system
    }

    /// Without a task that attacks the pages.
    pub(crate) async fn typical(monitor: impl FnOnce(Monitor) -> Monitor) -> Self {
        let redis = RedisServer::start().await;
        let options = RedisOptions::new(&redis.url()).expect("an address");
        let broker = RedisBroker::connect(options).await.expect("connected");
        Self::with(broker.into(), Storage::Redis(Box::new(redis)), monitor).await
    }

    /// On a SQLite file.
    pub(crate) async fn on_a_file() -> Self {
        let folder = TempDir::new().expect("a folder");
        let options = SqliteOptions::file(folder.path().join("tasks.db"));
        let broker = SqliteBroker::connect(options).await.expect("opened");
        let system = Self::with(broker.into(), Storage::File(folder), |monitor| monitor).await;
        system.add_hostile().await;
        system
    }

    async fn with(
        broker: SharedBroker,
        storage: Storage,
        monitor: impl FnOnce(Monitor) -> Monitor,
    ) -> Self {
        let inspector = Inspector::new(broker.clone());
        let producer = Producer::new(broker.clone());
        seed(&producer).await;
        let server = serve(&broker).await;
        settle(&inspector).await;
        let scheduler = schedule(&broker).await;
        wait_behind(&producer).await;
        let monitor = monitor(Monitor::new(broker.clone()));
        let endpoint = monitor.serve("127.0.0.1:0").await.expect("served");
        Self {
            broker,
            inspector,
            producer,
            endpoint,
            path: monitor.served_path().trim_end_matches('/').to_owned(),
            host: None,
            _server: server,
            _scheduler: scheduler,
            storage,
        }
    }

    /// Runs a task whose id, queue and failure run a script if a page does not escape them.
    async fn add_hostile(&self) {
        email(&self.producer, HOSTILE, HOSTILE, "hostile").await;
        self.until(HOSTILE, TaskState::Archived, 1).await;
    }

    /// Writes the statistics of a busy day for a queue.
    pub(crate) async fn remember_a_day(&self, queue: &str) {
        let now = self.inspector.now().as_millis() / HourStats::MILLIS;
        let mut command = redis::cmd("HSET");
        command.arg(format!("aq:{{{queue}}}:hours"));
        for ago in 1..24 {
            // More during the day than at night, with one bad hour.
            let wave = 1.0 + (f64::from(ago as u32 + 4) * std::f64::consts::TAU / 24.0).sin();
            let succeeded = (400.0 + 900.0 * wave) as u64;
            let failed = if ago == 6 {
                succeeded / 3
            } else {
                succeeded / 90
            };
            command.arg(format!("s{}", now - ago)).arg(succeeded);
            command.arg(format!("f{}", now - ago)).arg(failed);
        }
        let Storage::Redis(redis) = &self.storage else {
            panic!("only on Redis");
        };
        let mut connection = redis.connection().await;
        let () = command.query_async(&mut connection).await.expect("stored");
    }

    /// The server of a system on Redis.
    pub(crate) fn redis(&mut self) -> &mut RedisServer {
        match &mut self.storage {
            Storage::Redis(redis) => redis,
            Storage::File(_) => panic!("only on Redis"),
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        let address = self.endpoint.address();
        match self.host {
            Some(host) => format!("http://{host}:{}{}{path}", address.port(), self.path),
            None => format!("http://{address}{}{path}", self.path),
        }
    }

    /// Every page, in all states that change its content.
    pub(crate) fn pages(&self) -> Vec<String> {
        let paths = [
            "",
            "/charts",
            "/charts?span=7d&queue=billing",
            "/charts?span=15m",
            "/events",
            "/events?event=email:send&span=15m",
            "/settings",
            "/groups",
            "/nowhere",
            "/schedules",
            "/schedules/weekly",
            "/queues/billing?state=archived&sort=newest",
            "/servers",
            "/subscriptions",
            "/storage",
            "/audit",
            "/audit?at=noon",
            "/queues/billing?state=archived",
            "/queues/billing?state=retry",
            "/queues/billing?state=scheduled",
            "/queues/billing?state=completed",
            "/queues/backlog?state=pending",
            "/queues/billing?state=archived&filter=nonsense",
            "/queues/backlog?state=pending&columns=header.tenant,header.request-id&by=tenant",
            "/queues/backlog/confirm?state=pending&do=archive&filter=payload~customer",
            "/queues/reports?state=active",
            "/queues/news?state=aggregating",
            "/queues/empty",
            "/queues/billing/tasks/refused-1",
            "/queues/billing/tasks/sent-1",
            "/queues/reports/tasks/report-1",
            "/find?id=nobody",
            "/search",
            "/search?q=eror~x",
            "/search?q=email:",
            "/failures",
        ];
        let mut pages: Vec<_> = paths.iter().map(|path| self.url(path)).collect();
        pages.push(self.cause("550 no such mailbox"));
        pages
    }

    /// The page of a cause.
    pub(crate) fn cause(&self, message: &str) -> String {
        let cause = Fingerprint::of("email:send", FailureKind::Error, message);
        self.url(&format!("/failures/{cause}"))
    }

    pub(crate) async fn count(&self, queue: &str, state: TaskState) -> u64 {
        count(&self.inspector, queue, state).await
    }

    /// Waits until a number of tasks of a queue are in a state.
    pub(crate) async fn until(&self, queue: &str, state: TaskState, tasks: u64) {
        let what = format!("{tasks} tasks of {queue} are {state}");
        eventually(&what, || async { self.count(queue, state).await == tasks }).await;
    }

    pub(crate) async fn task(&self, queue: &str, id: &str) -> Option<TaskInfo> {
        let task = TaskRef::new(queue, TaskId::new(id).expect("an id"));
        self.inspector.task(&task).await.expect("read")
    }

    /// Waits until a task is in a state.
    pub(crate) async fn until_is(&self, queue: &str, id: &str, state: TaskState) {
        let what = format!("{queue}/{id} is {state}");
        let is = || async {
            self.task(queue, id)
                .await
                .is_some_and(|task| task.state == state)
        };
        eventually(&what, is).await;
    }

    /// Waits until a task no longer exists.
    pub(crate) async fn until_gone(&self, queue: &str, id: &str) {
        let what = format!("{queue}/{id} is gone");
        eventually(&what, || async { self.task(queue, id).await.is_none() }).await;
    }
}

async fn count(inspector: &Inspector, queue: &str, state: TaskState) -> u64 {
    let queue = inspector.queue(&queue.into()).await.expect("read");
    queue.stats.count(state)
}

async fn email(producer: &Producer, queue: &str, id: &str, to: &str) {
    let email = Email { to: to.to_owned() };
    let task = producer.enqueue(email).queue(queue).id(id);
    task.await.expect("accepted");
}

/// Enqueues the tasks that the server runs first.
async fn seed(producer: &Producer) {
    for n in 1..=5 {
        for (id, to) in [("sent", "ada"), ("refused", "refused"), ("busy", "busy")] {
            email(producer, "billing", &format!("{id}-{n}"), to).await;
        }
    }
    for n in 1..=20 {
        email(producer, "failing", &format!("failing-{n}"), "busy").await;
    }
    email(producer, "empty", "soon-gone", "ada").await;
    for pages in 1..=3 {
        let report = producer.enqueue(Report { pages: pages * 10 });
        let report = report.id(format!("report-{pages}"));
        report.await.expect("accepted");
    }
}

async fn serve(broker: &SharedBroker) -> ServerHandle {
    let server = Server::builder(broker.clone())
        .name("worker-1")
        .concurrency(8)
        .queue("billing", 3)
        .queue("failing", 1)
        .queue("reports", 1)
        .queue("news", 1)
        .queue("empty", 1)
        .queue(HOSTILE, 1)
        .process(send)
        .process(build)
        .process(digest)
        .subscribe("invoices", bill)
        .aggregate(|news: Vec<News>| Digest {
            texts: news.into_iter().map(|one| one.text).collect(),
        });
    server.start().await.expect("started")
}

/// Waits until the server has run all tasks, then pauses a queue, so that its tasks stay unchanged.
async fn settle(inspector: &Inspector) {
    for (queue, state, tasks) in [
        ("billing", TaskState::Archived, 5),
        ("billing", TaskState::Retry, 5),
        ("billing", TaskState::Completed, 5),
        ("failing", TaskState::Retry, 20),
        ("reports", TaskState::Active, 3),
        ("empty", TaskState::Completed, 1),
    ] {
        let what = format!("{tasks} tasks of {queue} are {state}");
        eventually(&what, || async {
            count(inspector, queue, state).await == tasks
        })
        .await;
    }
    let gone = TaskRef::new("empty", TaskId::new("soon-gone").expect("an id"));
    let action = asynqueue_core::inspector::Action::Delete;
    inspector.apply(&action, &[gone]).await.expect("deleted");
    inspector.pause(&["billing".into()]).await.expect("paused");
}

/// Enqueues waiting tasks, some of them in queues without a server.
async fn wait_behind(producer: &Producer) {
    let backlog = (0..120).map(|n| Email {
        to: format!("customer {n}"),
    });
    let many = producer.enqueue_many_with(backlog, |_, call| {
        call.queue("backlog")
            .header("tenant", "acme")
            .header("request-id", HOSTILE)
    });
    assert!(many.await.iter().all(Result::is_ok));
    for n in 1..=4 {
        let email = Email { to: "ada".into() };
        let later = producer.enqueue(email).delay(AN_HOUR * n);
        later.id(format!("later-{n}")).await.expect("accepted");
        let text = format!("news {n}");
        let news = producer.enqueue(News { text }).group("acme");
        news.await.expect("accepted");
    }
    for n in 1..=14 {
        email(producer, &format!("tenant-{n:02}"), "welcome", "bob").await;
    }
}

async fn schedule(broker: &SharedBroker) -> SchedulerHandle {
    let entry = |name, rule| {
        let email = Email { to: "ada".into() };
        let entry = Entry::new(name, rule, email).expect("a rule");
        entry.options(|call| call.queue("digests"))
    };
    let timetable = Timetable::new(broker.clone());
    let added = timetable.put(entry("weekly", "0 8 * * 1"));
    added.await.expect("stored");
    let scheduler = Scheduler::builder(broker.clone())
        .entry(entry("nightly", "TZ=Europe/Berlin 0 3 * * *"))
        .entry(entry("often", "@every 10s"));
    scheduler.start().await.expect("started")
}
