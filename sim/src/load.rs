//! The tasks of a scenario and their handlers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use asynqueue_core::{
    layer::ConcurrencyLimitLayer,
    process::{Context, Payload, TaskError},
    registry::ProcessWrapper,
    server::{Server, ServerBuilder},
    task::TaskRef,
    testing::fleet::Life,
};
use asynqueue_macros::Task;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::scenario::{Act, QUEUES, ServerPlan};

/// The maximum size of a result, in bytes.
const MAX_RESULT: usize = 1_000;

/// The common payload of all tasks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) n: u64,
    pub(crate) acts: Vec<Act>,
    /// A field that build 1 added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

macro_rules! tasks {
    ($($(#[$doc:meta])* $name:ident $event:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Serialize, Deserialize, Task)]
        #[task(event = $event, output = Vec<u64>, max_retry = 3, timeout = "20s", backoff = fixed("500ms"), crate = asynqueue_core)]
        pub(crate) struct $name(pub(crate) Job);
    )*};
}

tasks! {
    /// Handled by every build.
    Work "work";
    /// Handled from build 1 on.
    New "new";
    /// Runs with limited concurrency.
    Limited "limited";
    /// Published.
    News "news";
}

/// `Work` in build 0, which rejects fields of later builds.
#[derive(Clone, Debug, Serialize, Deserialize, Task)]
#[task(event = "work", output = Vec<u64>, crate = asynqueue_core)]
pub(crate) struct OldWork(OldJob);

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OldJob {
    n: u64,
    acts: Vec<Act>,
}

/// Waits for the other members of its group.
#[derive(Clone, Debug, Serialize, Deserialize, Task)]
#[task(event = "member", crate = asynqueue_core)]
pub(crate) struct Member(pub(crate) Job);

/// The aggregate of members.
#[derive(Clone, Debug, Serialize, Deserialize, Task)]
#[task(event = "batch", crate = asynqueue_core)]
pub(crate) struct Batch(pub(crate) Vec<Job>);

/// The task of a schedule entry.
#[derive(Clone, Debug, Serialize, Deserialize, Task)]
#[task(event = "tick", crate = asynqueue_core)]
pub(crate) struct Tick(pub(crate) u64);

/// How often each task has run. Snoozed runs do not count as attempts, so the handlers count them here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runs(Arc<Mutex<BTreeMap<TaskRef, usize>>>);

impl Runs {
    fn count(&self, ctx: &Context) -> usize {
        let mut runs = self.0.lock();
        let run = runs.entry(ctx.task_ref()).or_default();
        *run += 1;
        *run - 1
    }
}

/// The result of a task.
pub(crate) fn result_of(n: u64) -> Vec<u64> {
    vec![n, n * 2]
}

/// Builds a server from its plan.
pub(crate) fn server(life: &Life, plan: &ServerPlan, runs: &Runs) -> ServerBuilder {
    let build = plan.build + life.build;
    let millis = Duration::from_millis;
    let limited = ProcessWrapper::new(async |task: Payload<Limited>, ctx: Context| {
        run(&task.0.0, &ctx).await
    })
    .layer(ConcurrencyLimitLayer::new(plan.limit));
    let mut server = Server::builder(life.broker.clone())
        .state(runs.clone())
        .name(format!("server-{}-{}", life.node, life.number))
        .concurrency(plan.concurrency)
        .lease(millis(plan.lease))
        .poll_interval(millis(plan.poll))
        .shutdown_timeout(millis(plan.shutdown))
        .cancel_grace(millis(plan.grace))
        .max_result(MAX_RESULT)
        .unknown_event_grace(Duration::from_secs(600))
        .process(limited)
        .process(async |_: Payload<Tick>, _: Context| Ok::<_, TaskError>(()))
        .process(async |_: Payload<Batch>, _: Context| Ok::<_, TaskError>(()))
        .aggregate(|members: Vec<Member>| Batch(members.into_iter().map(|one| one.0).collect()))
        .subscribe("one", async |task: Payload<News>, ctx: Context| {
            run(&task.0.0, &ctx).await
        })
        .subscribe("two", async |task: Payload<News>, ctx: Context| {
            run(&task.0.0, &ctx).await
        });
    server = match build {
        0 => server.process(async |task: Payload<OldWork>, ctx: Context| {
            let OldJob { n, acts } = task.into_inner().0;
            run(
                &Job {
                    n,
                    acts,
                    note: None,
                },
                &ctx,
            )
            .await
        }),
        _ => server
            .process(async |task: Payload<Work>, ctx: Context| run(&task.0.0, &ctx).await)
            .process(async |task: Payload<New>, ctx: Context| run(&task.0.0, &ctx).await),
    };
    if plan.strict {
        server = server.strict_priority();
    }
    for (place, queue) in QUEUES.into_iter().enumerate() {
        server = server.queue(queue, place as u32 + 1);
    }
    server
}

async fn run(job: &Job, ctx: &Context) -> Result<Vec<u64>, TaskError> {
    let run = ctx.state::<Runs>()?.count(ctx);
    let act = job.acts.get(run).or(job.acts.last());
    let millis = Duration::from_millis;
    match act.copied().unwrap_or(Act::Ok) {
        Act::Ok => {}
        Act::Sleep(time) => sleep(millis(time)).await,
        Act::Fail => return Err(TaskError::retry("no luck")),
        Act::Panic => panic!("simulated"),
        Act::PanicInDrop(time) => {
            let _dropped = PanicsInDrop;
            sleep(millis(time)).await;
        }
        Act::Hang => std::future::pending().await,
        Act::Block(time) => Life::block(millis(time)).await,
        Act::Stubborn(time) => {
            ctx.cancelled().await;
            sleep(millis(time)).await;
        }
        // Not forever.
        Act::Snooze(time) if run < 10 => return Err(TaskError::snooze(millis(time))),
        Act::Snooze(_) => {}
        Act::SkipRetry => return Err(TaskError::skip_retry("never again")),
        Act::Revoke => return Err(TaskError::revoke()),
        Act::TooLarge => return Ok(vec![u64::MAX; MAX_RESULT]),
        Act::Enqueue => {
            let more = Job {
                acts: vec![Act::Ok],
                ..job.clone()
            };
            ctx.producer().enqueue(Work(more)).await?;
        }
    }
    Ok(result_of(job.n))
}

/// Panics on drop, unless the thread is already panicking.
struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "simulated, in a drop");
    }
}
