//! Maps events to their handlers.

use std::{
    any::TypeId,
    collections::{BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

use bytes::Bytes;
use tower_layer::Layer;

use crate::{
    layer::{
        ArchiveHooks, BoxProcess, CatchPanicLayer, Hook, HookLayer, TaskFuture, TaskOutput,
        TaskRequest, TaskService, TimeoutLayer,
    },
    process::{
        Context, FromState, LogMissingState, MissingState, OnDecodeError, Payload, Process,
        ServerState, TaskError, TaskErrorKind,
    },
    task::{Envelope, FailureKind, Name, Task},
};

/// A type-erased handler with its own layers.
#[derive(Clone)]
pub struct ProcessWrapper {
    event: Name,
    /// The event under which values of its payload type are published.
    published_as: &'static str,
    /// The default queue of its payload type.
    queue: Name,
    service: BoxProcess,
    check_state: CheckState,
}

type CheckState = Arc<dyn Fn(&ServerState) -> Result<(), MissingState> + Send + Sync>;

impl ProcessWrapper {
    /// Wraps a [`Process`] or an async function. If the type handles several types of tasks, name one:
    /// `ProcessWrapper::new::<Welcome>(mailer)`.
    pub fn new<Marker>(process: impl IntoProcess<Marker>) -> Self {
        process.into_process()
    }

    /// Wraps a blocking function: see
    /// [`ServerBuilder::process_blocking`](crate::server::ServerBuilder::process_blocking).
    pub fn blocking<Marker>(function: impl IntoBlockingProcess<Marker>) -> Self {
        function.into_blocking_process()
    }

    pub(crate) fn of<T: Task, P: Process<T>>(process: P) -> Self {
        let event = Name::from(process.event_name());
        let process = Arc::new(LogMissingState::new(process));
        let checked = Arc::clone(&process);
        let base = BoxProcess::from_fn(move |request| attempt(Arc::clone(&process), request));
        // In this order, because dropping a handler at its timeout can panic too.
        let service = CatchPanicLayer.layer(TimeoutLayer.layer(base));
        Self {
            event,
            published_as: T::EVENT,
            queue: T::options().queue.clone(),
            service,
            check_state: Arc::new(move |state| checked.check_state(state)),
        }
    }

    /// Checks that a server with this state has what the handler needs: see [`Process::check_state`].
    ///
    /// # Errors
    ///
    /// If the state lacks a value that it needs.
    pub fn check_state(&self, state: &ServerState) -> Result<(), MissingState> {
        (self.check_state)(state)
    }

    /// Runs `hook` around each attempt, outside the hooks and layers added before, and for each archived task of this
    /// handler.
    #[must_use]
    pub fn with_hook(self, hook: impl Hook) -> Self {
        self.layer(HookLayer::new(hook))
    }

    /// Applies a [`tower::Layer`](Layer) to each attempt, outside the hooks and layers added before.
    #[must_use]
    pub fn layer(self, layer: impl Layer<BoxProcess, Service: TaskService>) -> Self {
        Self {
            service: self.service.wrap(&layer),
            ..self
        }
    }

    /// The event that it handles.
    pub fn event(&self) -> &Name {
        &self.event
    }

    /// The default queue of its payload type.
    pub fn queue(&self) -> &Name {
        &self.queue
    }

    /// Runs one attempt, as the server would.
    pub fn run(&self, request: TaskRequest) -> TaskFuture {
        self.service.run(request)
    }

    /// The event under which values of its payload type are published.
    pub(crate) fn published_as(&self) -> &'static str {
        self.published_as
    }

    pub(crate) fn into_service(self) -> BoxProcess {
        self.service
    }

    pub(crate) fn map_service(self, f: impl FnOnce(BoxProcess) -> BoxProcess) -> Self {
        Self {
            service: f(self.service),
            ..self
        }
    }
}

impl fmt::Debug for ProcessWrapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessWrapper")
            .field("event", &self.event)
            .finish_non_exhaustive()
    }
}

/// Decodes the payload, runs the handler, encodes the output.
fn attempt<T: Task, P: Process<T>>(process: Arc<P>, request: TaskRequest) -> TaskFuture {
    Box::pin(async move {
        let ctx = request.context;
        let codec = &ctx.envelope().codec;
        let payload = codec
            .decode::<T, T::Codec>(&ctx.envelope().payload)
            .map_err(|error| undecodable::<T>(&ctx, error))?;
        let returns_unit = TypeId::of::<T::Output>() == TypeId::of::<()>();
        ctx.start::<T::Output>();
        let output = process.handle(Payload(payload), &ctx).await?;
        // `()` is not stored as a result.
        let result = match returns_unit {
            true => ctx.take_result(),
            false => Some(encode_output::<T>(&ctx, &output)?),
        };
        Ok(TaskOutput {
            result: result.map(Bytes::from),
        })
    })
}

fn undecodable<T: Task>(ctx: &Context, error: impl fmt::Display) -> TaskError {
    let message = format!("invalid payload of `{}`: {error}", T::EVENT);
    let kind = match ctx.state::<OnDecodeError>() {
        Ok(OnDecodeError::Archive) => TaskErrorKind::SkipRetry,
        Ok(OnDecodeError::Retry) | Err(_) => TaskErrorKind::Retry,
    };
    TaskError::of(kind, FailureKind::Decode, message)
}

fn encode_output<T: Task>(ctx: &Context, output: &T::Output) -> Result<Vec<u8>, TaskError> {
    // The work is done, and repeating it would fail the same way.
    let encoded = ctx.envelope().codec.encode_checked::<_, T::Codec>(output);
    let encoded = encoded
        .map_err(|error| TaskError::skip_retry(format!("could not encode the output: {error}")))?;
    ctx.check_result(&encoded).map_err(TaskError::skip_retry)?;
    Ok(encoded)
}

/// A handler that a server can register: a [`ProcessWrapper`], a [`Process`] or an async function.
///
/// `Marker` distinguishes the implementations and is inferred. For a [`Process`] it is the type of its tasks, which has
/// to be named if there are several: `.process::<Welcome>(mailer)`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "not a handler",
    note = "put `#[asynqueue::process]` on the function to see what is wrong with it",
    note = "a handler is an `async fn(task: Payload<T>, …) -> Result<Output, Error>`, whose `Output` is `<T as Task>::Output`, \
            and whose `Error` is any error, a boxed one, `anyhow::Error` or text",
    note = "its other arguments are `State<S>`, `Context`, types with `#[derive(FromState)]`, and types that implement `FromTask`",
    note = "a type is a handler if it implements `Process<T>`"
)]
pub trait IntoProcess<Marker> {
    /// Wraps the handler.
    fn into_process(self) -> ProcessWrapper;
}

impl IntoProcess<()> for ProcessWrapper {
    fn into_process(self) -> ProcessWrapper {
        self
    }
}

impl<T: Task, P: Process<T>> IntoProcess<T> for P {
    fn into_process(self) -> ProcessWrapper {
        ProcessWrapper::of(self)
    }
}

/// A blocking handler that a server can register: a function that is not async.
///
/// `Marker` distinguishes the implementations and is inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a function that a server can run on a separate thread",
    label = "not a blocking handler",
    note = "put `#[asynqueue::process(blocking)]` on the function to see what is wrong with it",
    note = "a blocking handler is a plain `fn(task: Payload<T>, …) -> Result<Output, Error>`, whose `Output` is `<T as Task>::Output`; \
            register an `async fn` with `.process(…)`",
    note = "its other arguments are `State<S>`, `Context`, types with `#[derive(FromState)]`, and types that implement `FromTask`"
)]
pub trait IntoBlockingProcess<Marker> {
    /// Wraps the handler.
    fn into_blocking_process(self) -> ProcessWrapper;
}

/// A handler that `#[task(process = …)]` declares at link time.
/// [`ServerBuilder::registered`](crate::server::ServerBuilder::registered) registers all of them.
#[derive(Clone, Copy)]
pub struct Registration {
    event: &'static str,
    build: fn(&ServerState) -> Result<ProcessWrapper, MissingState>,
}

impl Registration {
    /// Declares handler `P` for tasks of type `T`.
    pub const fn new<T: Task, P: Process<T> + FromState>() -> Self {
        Self {
            event: T::EVENT,
            build: |state| Ok(ProcessWrapper::of::<T, P>(P::from_state(state)?)),
        }
    }

    /// All handlers declared in this program.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        inventory::iter::<Self>()
    }

    /// The event that it handles.
    pub fn event(&self) -> &'static str {
        self.event
    }

    /// Builds the handler.
    ///
    /// # Errors
    ///
    /// If the state lacks a value that it needs.
    pub fn build(&self, state: &ServerState) -> Result<ProcessWrapper, MissingState> {
        (self.build)(state)
    }
}

inventory::collect!(Registration);

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("event", &self.event)
            .finish_non_exhaustive()
    }
}

/// The handlers of a server.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    by_event: HashMap<Name, BoxProcess>,
    /// Handlers with their own queue, such as subscribers, with their event.
    by_queue: HashMap<Name, (Name, BoxProcess)>,
    events: BTreeSet<Name>,
    /// The hooks of the server, for tasks without a handler here.
    hooks: ArchiveHooks,
}

impl Registry {
    /// Creates a registry for a server with these hooks.
    pub(crate) fn with_hooks(hooks: ArchiveHooks) -> Self {
        Self {
            hooks,
            ..Self::default()
        }
    }

    /// The hooks to call when a task has been archived.
    pub(crate) fn hooks_of(&self, task: &Envelope) -> &ArchiveHooks {
        self.of(task).map_or(&self.hooks, BoxProcess::hooks)
    }

    /// Adds a handler. Returns the event as the error if it has one already.
    pub(crate) fn insert(&mut self, process: ProcessWrapper) -> Result<(), Name> {
        let ProcessWrapper { event, service, .. } = process;
        if self.by_event.contains_key(&event) {
            return Err(event);
        }
        self.events.insert(event.clone());
        self.by_event.insert(event, service);
        Ok(())
    }

    /// Adds the handler of an event in one queue.
    pub(crate) fn insert_for_queue(&mut self, queue: Name, event: Name, service: BoxProcess) {
        self.events.insert(event.clone());
        self.by_queue.insert(queue, (event, service));
    }

    /// The handler of a task.
    pub(crate) fn of(&self, task: &Envelope) -> Option<&BoxProcess> {
        if self.by_queue.is_empty() {
            return self.by_event.get(&task.event);
        }
        match self.by_queue.get(&task.queue) {
            Some((event, service)) if *event == task.event => Some(service),
            _ => self.by_event.get(&task.event),
        }
    }

    /// All handlers with their events.
    pub(crate) fn processes(&self) -> impl Iterator<Item = (&Name, &BoxProcess)> {
        let by_queue = self.by_queue.values();
        let by_queue = by_queue.map(|(event, process)| (event, process));
        self.by_event.iter().chain(by_queue)
    }

    pub(crate) fn events(&self) -> &BTreeSet<Name> {
        &self.events
    }

    /// Whether there is a handler for this event.
    pub(crate) fn knows(&self, event: &Name) -> bool {
        self.events.contains(event)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_event.is_empty() && self.by_queue.is_empty()
    }
}
