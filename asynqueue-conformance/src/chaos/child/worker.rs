//! A worker: records each start before the work, and each end before the outcome.

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::MissedTicks,
    process::{Context, Payload, State, TaskError},
    scheduler::{Entry, Scheduler, SchedulerHandle},
    server::{Server, ServerBuilder},
};

use super::{Child, end_requested};
use crate::chaos::{
    journal::Journal,
    load::{
        Digest, ENTRIES, Kind, Member, News, QUEUES, SUBSCRIBERS, TICK, Tick, Work, number_of,
        result_of,
    },
    settings::LEASE,
};

/// How often it records that it is alive. A longer gap means that the process was paused.
const PULSE: Duration = Duration::from_millis(250);

#[derive(Clone)]
struct Runs(Arc<(Journal, String)>);

/// One run of a task. If it is dropped before its end, the task was stopped.
struct Run {
    runs: Runs,
    what: String,
    has_ended: bool,
}

impl Runs {
    async fn start(&self, ctx: &Context, more: &str) -> Run {
        let worker = &self.0.1;
        let what = format!("{} {} {} {worker}", ctx.queue(), ctx.id(), ctx.attempt());
        self.0.0.note(format!("start {what} {more}")).await;
        Run {
            runs: self.clone(),
            what,
            has_ended: false,
        }
    }
}

impl Run {
    async fn end(mut self, how: &str) {
        self.has_ended = true;
        self.runs.0.0.note(format!("end {} {how}", self.what)).await;
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.has_ended {
            self.runs
                .0
                .0
                .note_later(format!("end {} dropped", self.what));
        }
    }
}

async fn work(
    task: Payload<Work>,
    ctx: Context,
    State(runs): State<Runs>,
) -> Result<u64, TaskError> {
    let (kind, n) = (Kind::of(&task.id), number_of(&task.id));
    let run = runs.start(&ctx, &task.version.to_string()).await;
    let millis = match kind {
        // The longest takes more time than it takes to lose a lease that is not extended.
        Kind::Long if n % 8 == 0 => 1_000 + n * 37 % 7_000,
        Kind::Long => 100 + n * 37 % 400,
        Kind::Cancelled => 200 + n * 13 % 1_500,
        _ => 1 + n * 7 % 30,
    };
    let pause = tokio::time::sleep(Duration::from_millis(millis));
    // Every second task ignores cancellation.
    let stopped = async {
        match n % 2 {
            0 => ctx.cancelled().await,
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        () = pause => {}
        () = stopped => {
            run.end("stopped").await;
            return Err(TaskError::retry("stopped"));
        }
    }
    match kind {
        Kind::Retried if u64::from(ctx.attempt()) <= 1 + n % 2 => {
            run.end("failed").await;
            Err(TaskError::retry("it fails at first"))
        }
        Kind::GivesUp if ctx.attempt() == 1 => {
            run.end("failed").await;
            Err(TaskError::skip_retry("it gives up"))
        }
        _ => {
            run.end("ok").await;
            Ok(result_of(&task.id))
        }
    }
}

async fn digest(
    task: Payload<Digest>,
    ctx: Context,
    State(runs): State<Runs>,
) -> Result<(), TaskError> {
    let run = runs.start(&ctx, &task.members.join(",")).await;
    run.end("ok").await;
    Ok(())
}

async fn news(_: Payload<News>, ctx: Context, State(runs): State<Runs>) -> Result<(), TaskError> {
    let run = runs.start(&ctx, "").await;
    run.end("ok").await;
    Ok(())
}

async fn tick(
    task: Payload<Tick>,
    ctx: Context,
    State(runs): State<Runs>,
) -> Result<(), TaskError> {
    let tick = ctx.headers().get(TICK).unwrap_or_default();
    let run = runs.start(&ctx, &format!("{}@{tick}", task.entry)).await;
    run.end("ok").await;
    Ok(())
}

fn server(child: &Child) -> ServerBuilder {
    let runs = Runs(Arc::new((child.journal.clone(), child.name.clone())));
    let mut server = Server::builder(child.broker.clone())
        .name(child.name.clone())
        .concurrency(16)
        .lease(LEASE)
        .shutdown_timeout(Duration::from_secs(2))
        .log_failures(false)
        .state(runs)
        .process(work)
        .process(digest)
        .process(tick)
        .aggregate(|members: Vec<Member>| Digest {
            members: members.into_iter().map(|member| member.id).collect(),
        });
    for queue in QUEUES {
        server = server.queue(queue, 1);
    }
    for name in SUBSCRIBERS {
        server = server.subscribe(name, news);
    }
    server
}

fn entry(place: usize) -> Entry {
    let name = ENTRIES[place];
    let task = Tick {
        entry: name.to_owned(),
    };
    let entry = Entry::new(name, "@every 1s", task).expect("an entry");
    entry
        .missed(MissedTicks::Last(1_000))
        .options(|call| call.queue(QUEUES[place % QUEUES.len()]))
}

/// Starts a scheduler as soon as the store responds. The parent creates the entries: a worker that starts late must not
/// restore removed ones.
async fn scheduler(child: &Child) -> SchedulerHandle {
    loop {
        let scheduler = Scheduler::builder(child.broker.clone()).before(|_, tick, task| {
            task.headers.insert(TICK, tick.as_millis().to_string());
            Ok(())
        });
        if let Ok(scheduler) = scheduler.start().await {
            return scheduler;
        }
        tokio::time::sleep(PULSE).await;
    }
}

/// Works until it is requested to end.
pub(crate) async fn run(child: Child) {
    let pulse = child.journal.clone();
    std::thread::spawn(move || {
        loop {
            pulse.note_later("pulse");
            std::thread::sleep(PULSE);
        }
    });
    let server = server(&child).start().await.expect("a server");
    let scheduler = scheduler(&child).await;
    end_requested().await;
    child.journal.note("closing").await;
    scheduler.shutdown().await;
    let stats = server.stats();
    server.shutdown().await.expect("ended in order");
    let figures = format!("{} {} {}", stats.finished, stats.stale, stats.reclaimed);
    child.journal.note(format!("closed {figures}")).await;
}

/// The entries that fire during a run.
pub(crate) fn entries() -> impl Iterator<Item = Entry> {
    (0..ENTRIES.len()).map(entry)
}
