//! Which process handles which event.

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
        Context, FromState, MissingState, Noted, OnDecodeError, Payload, Process, ServerState,
        TaskError, TaskErrorKind,
    },
    task::{Envelope, FailureKind, Name, Task},
};

/// A process with the layers of its own around it, whatever its payload's type.
#[derive(Clone)]
pub struct ProcessWrapper {
    event: Name,
    /// The event that values of its type are published as.
    published_as: &'static str,
    /// Where tasks of its type go by default.
    queue: Name,
    service: BoxProcess,
    check_state: CheckState,
}

type CheckState = Arc<dyn Fn(&ServerState) -> Result<(), MissingState> + Send + Sync>;

impl ProcessWrapper {
    /// Wraps a process, or an async function. Where a process handles several types of tasks, the type says which one is
    /// meant: `ProcessWrapper::new::<Welcome>(process)`.
    pub fn new<Marker>(process: impl IntoProcess<Marker>) -> Self {
        process.into_process()
    }

    /// Wraps a function that blocks its thread: see [`ServerBuilder::process_blocking`](crate::server::ServerBuilder::process_blocking).
    pub fn blocking<Marker>(function: impl IntoBlockingProcess<Marker>) -> Self {
        function.into_blocking_process()
    }

    pub(crate) fn of<T: Task, P: Process<T>>(process: P) -> Self {
        let event = Name::from(process.event_name());
        let process = Arc::new(Noted::new(process));
        let checked = Arc::clone(&process);
        let base = BoxProcess::from_fn(move |request| attempt(Arc::clone(&process), request));
        // In this order, since a handler can panic too when it is dropped at its timeout.
        let service = CatchPanicLayer.layer(TimeoutLayer.layer(base));
        Self {
            event,
            published_as: T::EVENT,
            queue: T::options().queue.clone(),
            service,
            check_state: Arc::new(move |state| checked.check_state(state)),
        }
    }

    /// Whether a server with this state has what the process needs: see [`Process::check_state`].
    ///
    /// # Errors
    ///
    /// When the state lacks a value that it needs.
    pub fn check_state(&self, state: &ServerState) -> Result<(), MissingState> {
        (self.check_state)(state)
    }

    /// Runs `hook` around each attempt, outside of the hooks and layers added before, and for each task of this process that
    /// is archived.
    #[must_use]
    pub fn with_hook(self, hook: impl Hook) -> Self {
        self.layer(HookLayer::new(hook))
    }

    /// Puts a [`tower::Layer`](Layer) around each attempt, outside of the hooks and layers added before.
    #[must_use]
    pub fn layer(self, layer: impl Layer<BoxProcess, Service: TaskService>) -> Self {
        Self {
            service: self.service.wrap(&layer),
            ..self
        }
    }

    /// The event it handles.
    pub fn event(&self) -> &Name {
        &self.event
    }

    /// The queue that tasks of its type go to by default.
    pub fn queue(&self) -> &Name {
        &self.queue
    }

    /// Runs one attempt, as the server would.
    pub fn run(&self, request: TaskRequest) -> TaskFuture {
        self.service.run(request)
    }

    /// The event that values of its type are published as.
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

/// Decodes the payload, runs the process, encodes the output.
fn attempt<T: Task, P: Process<T>>(process: Arc<P>, request: TaskRequest) -> TaskFuture {
    Box::pin(async move {
        let ctx = request.context;
        let codec = &ctx.envelope().codec;
        let payload = codec
            .decode::<T, T::Codec>(&ctx.envelope().payload)
            .map_err(|error| undecodable::<T>(&ctx, error))?;
        let returns_unit = TypeId::of::<T::Output>() == TypeId::of::<()>();
        ctx.begin(!returns_unit);
        let output = process.handle(Payload(payload), &ctx).await?;
        // `()` is not a result to keep.
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
    let message = format!("payload is not a `{}`: {error}", T::EVENT);
    let kind = match ctx.state::<OnDecodeError>() {
        Ok(OnDecodeError::Archive) => TaskErrorKind::SkipRetry,
        Ok(OnDecodeError::Retry) | Err(_) => TaskErrorKind::Retry,
    };
    TaskError::of(kind, FailureKind::Decode, message)
}

fn encode_output<T: Task>(ctx: &Context, output: &T::Output) -> Result<Vec<u8>, TaskError> {
    // The work is done; doing it again would not help.
    let encoded = ctx.envelope().codec.encode_checked::<_, T::Codec>(output);
    let encoded = encoded
        .map_err(|error| TaskError::skip_retry(format!("its output cannot be encoded: {error}")))?;
    ctx.check_result(&encoded).map_err(TaskError::skip_retry)?;
    Ok(encoded)
}

/// What a server can mount: a [`ProcessWrapper`], a [`Process`] or an async function.
///
/// `Marker` keeps the implementations apart, and is inferred. Of a [`Process`] it is the type of its tasks, which has to be
/// written out where there are several: `.process::<Welcome>(process)`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a process",
    label = "not a process",
    note = "put `#[asynqueue::process]` on the function to see what is wrong with it",
    note = "a handler is an `async fn(task: Payload<T>, …) -> Result<Output, Error>`, whose `Output` is `<T as Task>::Output`, \
            and whose `Error` is any error, a boxed one, `anyhow::Error` or text",
    note = "its other arguments are `State<S>`, `Context`, types with `#[derive(FromState)]`, and types that implement `FromTask`",
    note = "a type is a process by `impl Process<T>`"
)]
pub trait IntoProcess<Marker> {
    /// Wraps it.
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

/// What a server can mount that blocks its thread: a function that is not async.
///
/// `Marker` keeps the implementations apart, and is inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a function that a server can run on a thread of its own",
    label = "not a blocking handler",
    note = "put `#[asynqueue::process(blocking)]` on the function to see what is wrong with it",
    note = "a blocking handler is a plain `fn(task: Payload<T>, …) -> Result<Output, Error>`, whose `Output` is `<T as Task>::Output`; \
            mount an `async fn` by `.process(…)`",
    note = "its other arguments are `State<S>`, `Context`, types with `#[derive(FromState)]`, and types that implement `FromTask`"
)]
pub trait IntoBlockingProcess<Marker> {
    /// Wraps it.
    fn into_blocking_process(self) -> ProcessWrapper;
}

/// A process that `#[task(process = …)]` registers at link time;
/// [`ServerBuilder::registered`](crate::server::ServerBuilder::registered) mounts every one.
#[derive(Clone, Copy)]
pub struct Registration {
    event: &'static str,
    build: fn(&ServerState) -> Result<ProcessWrapper, MissingState>,
}

impl Registration {
    /// Registers process `P` for tasks of type `T`.
    pub const fn new<T: Task, P: Process<T> + FromState>() -> Self {
        Self {
            event: T::EVENT,
            build: |state| Ok(ProcessWrapper::of::<T, P>(P::from_state(state)?)),
        }
    }

    /// All that are linked into this program.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        inventory::iter::<Self>()
    }

    /// The event.
    pub fn event(&self) -> &'static str {
        self.event
    }

    /// Builds the process.
    ///
    /// # Errors
    ///
    /// When the state lacks a value that it needs.
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

/// The processes of a server.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    by_event: HashMap<Name, BoxProcess>,
    /// Those that have a queue to themselves, such as subscribers, with their event.
    by_queue: HashMap<Name, (Name, BoxProcess)>,
    events: BTreeSet<Name>,
    /// The hooks of the server, used for tasks that it has no process for.
    hooks: ArchiveHooks,
}

impl Registry {
    /// A registry of a server with these hooks.
    pub(crate) fn with_hooks(hooks: ArchiveHooks) -> Self {
        Self {
            hooks,
            ..Self::default()
        }
    }

    /// The hooks that are called when a task has been archived.
    pub(crate) fn hooks_of(&self, task: &Envelope) -> &ArchiveHooks {
        self.of(task).map_or(&self.hooks, BoxProcess::hooks)
    }

    /// Adds a process, or fails with the event that has one already.
    pub(crate) fn insert(&mut self, process: ProcessWrapper) -> Result<(), Name> {
        let ProcessWrapper { event, service, .. } = process;
        if self.by_event.contains_key(&event) {
            return Err(event);
        }
        self.events.insert(event.clone());
        self.by_event.insert(event, service);
        Ok(())
    }

    /// Adds what runs all tasks of an event in a queue.
    pub(crate) fn insert_for_queue(&mut self, queue: Name, event: Name, service: BoxProcess) {
        self.events.insert(event.clone());
        self.by_queue.insert(queue, (event, service));
    }

    /// What runs a task.
    pub(crate) fn of(&self, task: &Envelope) -> Option<&BoxProcess> {
        if self.by_queue.is_empty() {
            return self.by_event.get(&task.event);
        }
        match self.by_queue.get(&task.queue) {
            Some((event, service)) if *event == task.event => Some(service),
            _ => self.by_event.get(&task.event),
        }
    }

    pub(crate) fn events(&self) -> &BTreeSet<Name> {
        &self.events
    }

    /// Whether anything runs tasks of this event.
    pub(crate) fn knows(&self, event: &Name) -> bool {
        self.events.contains(event)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_event.is_empty() && self.by_queue.is_empty()
    }
}
