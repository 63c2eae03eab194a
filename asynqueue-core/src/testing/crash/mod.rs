//! Crashes a handler at each of its awaits.

mod attempt;
mod observed;
mod point;
mod report;
mod run;
mod search;

use std::{
    fmt::{self, Debug},
    sync::Arc,
};

use self::{
    observed::{Compares, show},
    run::Subject,
    search::Search,
};
pub use self::{
    point::{CrashPoint, crash_point},
    report::{Crash, CrashError, CrashFinding, CrashKind, CrashSummary, Difference},
};
use crate::{
    broker::When,
    memory::MemoryBroker,
    process::ServerState,
    producer::{CallOptions, Producer},
    registry::{IntoProcess, ProcessWrapper},
    task::Task,
    testing::TestClock,
};

/// The default limit of awaits per attempt.
const DEFAULT_MAX_AWAITS: usize = 1_000;

/// Runs a task repeatedly, crashes its handler in a different place each time, and checks that the result is always the
/// same. At-least-once delivery requires this of a handler: it must be safe to repeat.
///
/// A place is an await at which the handler waits, a *crash point*. Two crashes are tried at each:
///
/// 1. The attempt is [dropped](CrashKind::Dropped), and the task is redelivered as after a lost worker.
/// 2. The attempt [pauses](CrashKind::LateDuplicate), the task is redelivered and finishes, and then the attempt
///    resumes, as on a worker that was cut off for longer than its lease.
///
/// In addition, each attempt once runs to its end and its [outcome is lost](CrashKind::OutcomeLost). The redelivered
/// task runs as the next attempt, and is retried as on a server, up to its `max_retry`, but without waiting for its
/// backoff.
///
/// Each run has a separate world, created by [`with_state`](CrashEverywhere::with_state): the fakes that the handler
/// works on. After the run, [`check`](CrashEverywhere::check) extracts the relevant part of the world, which must be
/// equal to that of an undisturbed run. The task's outcome and output, and the tasks that the handler enqueued, must be
/// equal too.
///
/// ```
/// use asynqueue_core::{
///     process::{Payload, State, TaskError},
///     task::TaskId,
///     testing::{CrashError, CrashKind, crash_everywhere, crash_point},
/// };
/// use std::{collections::BTreeMap, sync::{Arc, Mutex}};
/// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
/// # #[task(event = "card:charge", crate = asynqueue_core)]
/// # struct Charge { cents: u64 }
///
/// #[derive(Clone, Default)]
/// struct Bank(Arc<Mutex<BTreeMap<String, u64>>>);
///
/// impl Bank {
///     async fn charge(&self, key: String, cents: u64) {
///         crash_point().await;
///         self.0.lock().expect("not poisoned").entry(key).or_insert(cents);
///         crash_point().await;
///     }
///
///     fn total(&self) -> u64 {
///         self.0.lock().expect("not poisoned").values().sum()
///     }
/// }
///
/// /// Uses a new key for each attempt, so the bank charges for each.
/// async fn charge_twice(task: Payload<Charge>, bank: State<Bank>) -> Result<(), TaskError> {
///     Ok(bank.charge(TaskId::generate().to_string(), task.cents).await)
/// }
///
/// /// Uses the task's id as the key.
/// async fn charge(task: Payload<Charge>, bank: State<Bank>, id: TaskId) -> Result<(), TaskError> {
///     Ok(bank.charge(id.to_string(), task.cents).await)
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), CrashError> {
/// // In a `#[tokio::test]`:
/// let test = crash_everywhere(charge_twice, Charge { cents: 500 }).with_state(Bank::default);
/// match test.check(Bank::total).await {
///     Err(CrashError::Found(found)) => {
///         assert_eq!((found.crash.kind, found.crash.at), (CrashKind::Dropped, 2));
///         assert_eq!((&*found.differences[0].expected, &*found.differences[0].found), ("500", "1000"));
///     }
///     other => panic!("the double charge was not found: {other:?}"),
/// }
///
/// let test = crash_everywhere(charge, Charge { cents: 500 }).with_state(Bank::default);
/// let summary = test.check(Bank::total).await?;
/// assert_eq!(summary.crash_points, 2);
/// # Ok(()) }
/// ```
///
/// # How to write a good test
///
/// - Fakes wait where the real service does, with [`crash_point`] or anything else that is not ready immediately. An
///   await that is ready immediately is not a crash point. [`CrashSummary::crash_points`] is the number of crash
///   points.
/// - Fakes are deterministic. Without a crash, two runs must have the same result.
/// - Nothing here sleeps. If the handler does, use `#[tokio::test(start_paused = true)]`, which skips waiting times.
///   This does not work for a handler with [blocking code](crate::process::Context::run_blocking): paused time does not
///   wait for it.
///
/// # Limitations
///
/// - Everything between two awaits is one step. Blocking code that is running during a crash completes.
/// - Destructors run when an attempt is dropped, as at a timeout. A killed process runs none. A late duplicate tests
///   what they would do: they run only after the next attempt.
/// - Tokio tasks spawned by the handler continue, and are neither dropped nor paused.
/// - Tasks enqueued by the handler are kept and not run: a handler that waits for the result of another task waits
///   until its timeout.
/// - There is one crash in each run, and the task's deadline does not end it.
/// - Layers and hooks of the handler run; those of the server, and
///   [`Hook::on_archived`](crate::layer::Hook::on_archived), do not.
pub fn crash_everywhere<T: Task, M>(
    process: impl IntoProcess<M>,
    task: T,
) -> CrashEverywhere<T, ()> {
    CrashEverywhere {
        process: process.into_process(),
        task,
        call: CallOptions::default(),
        state: ServerState::default(),
        make: Arc::new(|| ()),
        max_awaits: DEFAULT_MAX_AWAITS,
        may_fail: false,
        compares: Compares {
            output: true,
            enqueued: true,
        },
    }
}

/// A crash test to run: configure it, then await its [`check`](Self::check).
#[must_use = "nothing runs until `check` is awaited"]
pub struct CrashEverywhere<T, W> {
    process: ProcessWrapper,
    task: T,
    call: CallOptions,
    state: ServerState,
    make: Arc<dyn Fn() -> W + Send + Sync>,
    max_awaits: usize,
    may_fail: bool,
    compares: Compares,
}

impl<T: Task, W: Send + Sync + 'static> CrashEverywhere<T, W> {
    /// Sets the function that creates the world of each run. The handler accesses it as
    /// [`State<V>`](crate::process::State), and [`check`](Self::check) inspects it at the end. As with all state,
    /// clones must share their content.
    pub fn with_state<V: Send + Sync + 'static>(
        self,
        make: impl Fn() -> V + Send + Sync + 'static,
    ) -> CrashEverywhere<T, V> {
        CrashEverywhere {
            process: self.process,
            task: self.task,
            call: self.call,
            state: self.state,
            make: Arc::new(make),
            max_awaits: self.max_awaits,
            may_fail: self.may_fail,
            compares: self.compares,
        }
    }

    /// Adds another value to the handler's state, by its type. All runs use the same value, so it must not store their
    /// effects.
    pub fn state<V: Send + Sync + 'static>(mut self, value: V) -> Self {
        self.state.insert(value);
        self
    }

    /// Sets options of the [`enqueue`](Producer::enqueue) call, such as an id or headers. A delay and a deadline have
    /// no effect.
    ///
    /// ```
    /// # use asynqueue_core::{process::{Context, Payload, TaskError}, testing::{CrashError, crash_everywhere}};
    /// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
    /// # #[task(event = "report", crate = asynqueue_core)]
    /// # struct Report;
    /// async fn report(_: Payload<Report>, ctx: Context) -> Result<(), TaskError> {
    ///     assert_eq!((ctx.id().as_str(), ctx.max_retry()), ("monday", 3));
    ///     Ok(())
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), CrashError> {
    /// let test = crash_everywhere(report, Report).enqueued_with(|call| call.id("monday").max_retry(3));
    /// test.check(|_| ()).await?;
    /// # Ok(()) }
    /// ```
    pub fn enqueued_with(mut self, set: impl FnOnce(CallOptions) -> CallOptions) -> Self {
        self.call = set(self.call);
        self
    }

    /// Sets how often an attempt may wait before the handler counts as one that never returns. Default 1,000. A test
    /// makes about two runs for each await. It is also the limit of attempts per run, with a minimum of 1,000.
    pub fn max_awaits(mut self, max_awaits: usize) -> Self {
        self.max_awaits = max_awaits;
        self
    }

    /// Accepts a task that is archived or revoked in an undisturbed run. It must end in the same way after a crash,
    /// with any failure message.
    pub fn may_fail(mut self) -> Self {
        self.may_fail = true;
        self
    }

    /// Does not compare the output of the handler, for example if it contains a duration.
    pub fn ignore_output(mut self) -> Self {
        self.compares.output = false;
        self
    }

    /// Does not compare the tasks that the handler enqueues, if running them again is harmless. Otherwise tasks are
    /// compared by event, payload, queue and unique key. To enqueue a task only once, set its
    /// [id](crate::producer::Enqueue::id).
    pub fn ignore_enqueued(mut self) -> Self {
        self.compares.enqueued = false;
        self
    }

    /// Runs the test. `check` extracts from the world what must be equal after each run. It may also contain
    /// assertions: a panic after a crash is a finding.
    ///
    /// # Errors
    ///
    /// [`CrashError::Found`] with the first crash whose result differs. The other errors mean that the test cannot be
    /// run, and say what to change.
    ///
    /// # Panics
    ///
    /// When `check` panics after an undisturbed run.
    pub async fn check<R: PartialEq + Debug>(
        self,
        check: impl Fn(&W) -> R,
    ) -> Result<CrashSummary, CrashError> {
        self.check_async(async |world: &W| check(world)).await
    }

    /// Like [`check`](Self::check), with an async function.
    ///
    /// # Errors
    ///
    /// As for [`check`](Self::check).
    ///
    /// # Panics
    ///
    /// When `check` panics after an undisturbed run.
    pub async fn check_async<R: PartialEq + Debug>(
        self,
        check: impl AsyncFn(&W) -> R,
    ) -> Result<CrashSummary, CrashError> {
        let search = Search {
            subject: self.subject()?,
            state: self.state,
            make: self.make,
            may_fail: self.may_fail,
            compares: self.compares,
            check,
            runs: 0,
        };
        search.run().await
    }

    fn subject(&self) -> Result<Subject, CrashError> {
        // Its clock starts at the same time as that of each run.
        let producer = Producer::new(MemoryBroker::with_clock(TestClock::default()));
        let mut task = self.call.clone().build(&producer, &self.task)?;
        task.when = When::Now;
        let options = Arc::make_mut(&mut task.envelope.options);
        // A handler receives the task that a group has become.
        options.aggregate = None;
        if options.max_retry == 0 {
            let event = task.envelope.event;
            return Err(CrashError::NeverRetried { event });
        }
        Ok(Subject {
            service: self.process.clone().into_service(),
            process: self.process.clone(),
            task,
            max_awaits: self.max_awaits,
            max_attempts: self.max_awaits.max(DEFAULT_MAX_AWAITS),
            show: show::<T::Codec>,
        })
    }
}

impl<T: Debug, W> Debug for CrashEverywhere<T, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrashEverywhere")
            .field("process", &self.process)
            .field("task", &self.task)
            .field("max_awaits", &self.max_awaits)
            .finish_non_exhaustive()
    }
}
