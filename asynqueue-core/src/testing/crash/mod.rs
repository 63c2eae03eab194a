//! Letting a handler crash at each of its awaits.

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

/// The most awaits of an attempt unless the test sets another limit.
const DEFAULT_MAX_AWAITS: usize = 1_000;

/// Runs a task over and over, lets its handler crash in another place each time, and finds out whether what it leaves behind is
/// always the same. It is what at-least-once delivery asks of a handler: to be safe to repeat.
///
/// A place is an await at which the handler waits, its *crash points*. In each, two things are tried:
///
/// 1. The attempt is [dropped](CrashKind::Dropped) there, and the task redelivered as after a lost worker.
/// 2. The attempt [pauses](CrashKind::LateDuplicate) there, the task is redelivered and comes to its end, and then the attempt
///    resumes, as on a worker that was cut off for longer than its lease.
///
/// And each attempt once runs to its end and has its [outcome lost](CrashKind::OutcomeLost). What is redelivered runs as the next
/// attempt, and is retried like on a server, up to its `max_retry`, without waiting for its backoff.
///
/// Each run has a world of its own, made by [`with_state`](CrashEverywhere::with_state): the fakes that the handler works on. When
/// it is over, [`check`](CrashEverywhere::check) extracts from it what matters, and that must be equal to what an undisturbed run
/// left behind. So must be the task's outcome and output, and what the handler has enqueued.
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
/// /// Under a key for each attempt, so the bank charges for each.
/// async fn charge_twice(task: Payload<Charge>, bank: State<Bank>) -> Result<(), TaskError> {
///     Ok(bank.charge(TaskId::generate().to_string(), task.cents).await)
/// }
///
/// /// Under the task's id.
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
/// # What makes a good test
///
/// - Fakes wait where the real thing does, by [`crash_point`] or anything else that is not ready at once. An await that is ready at
///   once is not a crash point. [`CrashSummary::crash_points`] says how many there were.
/// - Fakes are deterministic. Without a crash, two runs must leave the same behind.
/// - Nothing here sleeps. If the handler does, use `#[tokio::test(start_paused = true)]`, in which time passes at once. Not so
///   for a handler with [blocking code](crate::process::Context::run_blocking): paused time does not wait for that.
///
/// # What it does not find
///
/// - What happens between two awaits is one step. Blocking code that is under way in a crash runs to its end.
/// - Destructors run when an attempt is dropped, as at a timeout. A process that is killed runs none. A late duplicate is a test
///   for what they would do: they run only after the next attempt.
/// - What the handler has spawned as a task of tokio's lives on, and is neither dropped nor paused.
/// - What the handler enqueues is kept, and not run: a handler that waits for the result of another task waits until its timeout.
/// - There is one crash in each run, and the task's deadline does not end it.
/// - Layers and hooks of the process run; those of the server, and [`Hook::on_archived`](crate::layer::Hook::on_archived), do not.
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

/// A crash test about to run: set what it needs, then await its [`check`](Self::check).
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
    /// Makes the world of each run, which the handler sees as [`State<V>`](crate::process::State) and
    /// [`check`](Self::check) looks at in the end. As with all state, clones are to share what is in it.
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

    /// Shares another value with the handler, by its type. It is the same one in all runs, so it must not keep what they do.
    pub fn state<V: Send + Sync + 'static>(mut self, value: V) -> Self {
        self.state.insert(value);
        self
    }

    /// Sets what a caller of [`enqueue`](Producer::enqueue) would, such as an id or headers. A delay and a deadline have no effect.
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

    /// How often an attempt may wait before the handler counts as one that never returns. By default 1,000 times. A test takes about
    /// two runs for each await. A run may have as many attempts, and 1,000 at least.
    pub fn max_awaits(mut self, max_awaits: usize) -> Self {
        self.max_awaits = max_awaits;
        self
    }

    /// Accepts a task that is archived or revoked when it runs undisturbed. It has to end so after a crash too, whatever
    /// the message of the failure.
    pub fn may_fail(mut self) -> Self {
        self.may_fail = true;
        self
    }

    /// Lets the output of the handler be another after a crash, such as one that says how long it took.
    pub fn ignore_output(mut self) -> Self {
        self.compares.output = false;
        self
    }

    /// Lets the handler enqueue other tasks after a crash, or the same ones again, where these do no harm when they run twice. Tasks
    /// are otherwise compared by event, payload, queue and unique key. To enqueue a task once, give it
    /// [an id](crate::producer::Enqueue::id) of the handler's own.
    pub fn ignore_enqueued(mut self) -> Self {
        self.compares.enqueued = false;
        self
    }

    /// Runs the test. `check` extracts from the world what has to be equal after each run. It may also assert what must hold by
    /// itself: a panic after a crash is a finding.
    ///
    /// # Errors
    ///
    /// [`CrashError::Found`] with the first crash after which something differs. The others say that the test cannot be run, and
    /// what to change in it.
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

    /// As [`check`](Self::check), with a check that awaits.
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
        // Its clock begins where that of each run does.
        let producer = Producer::new(MemoryBroker::with_clock(TestClock::default()));
        let mut task = self.call.clone().build(&producer, &self.task)?;
        task.when = When::Now;
        let options = Arc::make_mut(&mut task.envelope.options);
        // What the handler gets is the task that a group has become.
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
