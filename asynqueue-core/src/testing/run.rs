//! Running one attempt of a handler, without broker or server.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    broker::SharedBroker,
    codec::{Codec, CodecName},
    layer::TaskRequest,
    memory::MemoryBroker,
    process::{AttemptEnd, Context, Provided, ServerState, StdTaskError, TaskError},
    producer::decode_output,
    registry::{IntoProcess, ProcessWrapper},
    task::{Clock, Envelope, Headers, SystemClock, Task, TaskId},
};

/// Runs one attempt of a handler on `task`, with its hooks and layers if it is a [`ProcessWrapper`]. As on a server,
/// payload and output are encoded and decoded, and a panic or a timeout is an error.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), asynqueue_core::layer::BoxError> {
/// use asynqueue_core::{process::{Context, Payload, State, TaskError}, testing::run_inline};
/// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
/// # #[task(event = "greet", output = String, crate = asynqueue_core)]
/// # struct Greet { name: String }
///
/// async fn greet(task: Payload<Greet>, hello: State<&'static str>) -> Result<String, TaskError> {
///     Ok(format!("{}, {}!", *hello, task.name))
/// }
///
/// let task = Greet { name: "Ada".into() };
/// let greeting = run_inline(greet, task).attempt(2).state("Welcome back").await?;
/// assert_eq!(greeting, "Welcome back, Ada!");
/// # Ok(()) }
/// ```
pub fn run_inline<T: Task, M>(process: impl IntoProcess<M>, task: T) -> RunInline<T> {
    RunInline {
        process: process.into_process(),
        task,
        attempt: 1,
        headers: Headers::default(),
        broker: None,
        state: ServerState::default(),
        cancelled: false,
    }
}

/// An attempt to run: set what its [`Context`] returns, then `.await` it.
#[derive(Debug)]
#[must_use = "an attempt runs once this is awaited"]
pub struct RunInline<T> {
    process: ProcessWrapper,
    task: T,
    attempt: u32,
    headers: Headers,
    broker: Option<SharedBroker>,
    state: ServerState,
    cancelled: bool,
}

impl<T: Task> RunInline<T> {
    /// Sets the number of the attempt, from 1. Default 1.
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// Adds a header to the task.
    pub fn header(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(key, value);
        self
    }

    /// Adds a value to the state that the handler can access, by its type.
    pub fn state<V: Send + Sync + 'static>(mut self, value: V) -> Self {
        self.state.insert(value);
        self
    }

    /// Sets the broker that the handler [enqueues to](Context::producer). Default: a new memory broker.
    pub fn broker(mut self, broker: impl Into<SharedBroker>) -> Self {
        self.broker = Some(broker.into());
        self
    }

    /// Makes the attempt cancelled from the start.
    pub fn cancelled(mut self) -> Self {
        self.cancelled = true;
        self
    }

    async fn run(self) -> Result<T::Output, StdTaskError> {
        let codec = CodecName::of::<T::Codec>();
        let payload = T::Codec::encode_checked(&self.task).map_err(TaskError::from);
        let payload = Bytes::from(payload.map_err(TaskError::into_std)?);
        let (id, options) = (TaskId::generate(), T::options());
        let event = T::EVENT.into();
        let mut envelope = Envelope::with_options(id, event, codec.clone(), payload, options);
        envelope.headers = self.headers;
        envelope.attempts = self.attempt.saturating_sub(1);
        let timeout = envelope.options.timeout.min(LONGEST);
        let end = AttemptEnd {
            at: Instant::now() + timeout,
            is_deadline: false,
        };
        let provided = Provided {
            state: self.state,
            broker: self.broker.unwrap_or_else(|| MemoryBroker::new().into()),
        };
        let context = Context::new(
            Arc::new(envelope),
            "inline".into(),
            SystemClock.now(),
            None,
            end,
            Arc::new(provided),
            Weak::new(),
        );
        if self.cancelled {
            context.cancellation_token().cancel();
        }
        let output = self.process.run(TaskRequest { context }).await;
        let output = output.map_err(TaskError::into_std)?;
        decode_output::<T>(&codec, output.result.as_deref())
            .map_err(|error| TaskError::from(error).into_std())
    }
}

/// Keeps the sum of the current time and a timeout in range.
pub(super) const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

impl<T: Task> IntoFuture for RunInline<T> {
    type Output = Result<T::Output, StdTaskError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
