//! Blocking code: run on threads of its own, and accounted for like the handler that started it.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use tokio::{
    runtime::Handle,
    sync::{Notify, Semaphore, oneshot},
};
use tokio_util::sync::CancellationToken;

use super::{Context, TaskError, TaskErrorKind};
use crate::{layer::catch, task::FailureKind};

/// What bounds the blocking code of a slot.
pub(crate) struct Bounds {
    /// How many threads of this kind the server may still have.
    threads: Arc<Semaphore>,
    /// Held for as long as something occupies the slot.
    _slot: Arc<dyn Any + Send + Sync>,
}

impl Bounds {
    pub(crate) fn new(threads: Arc<Semaphore>, slot: Arc<dyn Any + Send + Sync>) -> Self {
        Self {
            threads,
            _slot: slot,
        }
    }
}

/// The blocking code of one attempt.
#[derive(Default)]
pub(super) struct Blocking {
    running: AtomicUsize,
    ended: Notify,
}

/// Counts one piece of blocking code for as long as it runs.
struct Counted(Context);

impl Counted {
    fn new(context: &Context) -> Self {
        context.blocking().running.fetch_add(1, SeqCst);
        Self(context.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let blocking = self.0.blocking();
        if blocking.running.fetch_sub(1, SeqCst) == 1 {
            blocking.ended.notify_one();
        }
    }
}

impl Context {
    /// Runs CPU-bound or blocking code on a thread of its own, so that it holds up nothing else. `work` is given the
    /// token that is cancelled when the task is cancelled, times out or loses its lease, or the server shuts down: look
    /// at it between two steps.
    ///
    /// The slot stays taken until `work` returns, also when the handler has timed out meanwhile. Code that does not stop
    /// within the [grace](crate::ServerBuilder::cancel_grace) after that counts as
    /// [abandoned](crate::ServerStats::abandoned). A server has at most as many such threads as handlers can
    /// run or be abandoned at once; beyond that, `work` waits.
    ///
    /// ```
    /// # use asynqueue_core::{Context, Payload, TaskError};
    /// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
    /// # #[task(event = "image:resize", crate = asynqueue_core)]
    /// # struct Resize { path: String }
    /// async fn resize(task: Payload<Resize>, ctx: Context) -> Result<(), TaskError> {
    ///     let image = ctx.run_blocking(move |_| std::fs::read(&task.path)).await??;
    ///     println!("{} bytes", image.len());
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// When `work` panics, as a failure of kind [`Panic`](crate::FailureKind::Panic), or the operating system has no
    /// thread left.
    pub async fn run_blocking<R, F>(&self, work: F) -> Result<R, TaskError>
    where
        F: FnOnce(&CancellationToken) -> R + Send + 'static,
        R: Send + 'static,
    {
        let bounds = self.bounds();
        let permit = match &bounds {
            // The semaphore is never closed.
            Some(bounds) => Arc::clone(&bounds.threads).acquire_owned().await.ok(),
            None => None,
        };
        let occupied = (Counted::new(self), permit, bounds);
        let cancelled = self.cancellation_token().clone();
        let (runtime, span) = (Handle::try_current().ok(), tracing::Span::current());
        let log = tracing::dispatcher::get_default(Clone::clone);
        let (sender, receiver) = oneshot::channel();
        let thread = thread::Builder::new().name("asynqueue-blocking".into());
        let spawned = thread.spawn(move || {
            let _occupied = occupied;
            let _entered = runtime.as_ref().map(Handle::enter);
            let worked = tracing::dispatcher::with_default(&log, || {
                span.in_scope(|| catch(|| work(&cancelled)))
            });
            // The handler may have timed out, so there may be no receiver.
            let _ = sender.send(worked);
        });
        if let Err(error) = spawned {
            return Err(TaskError::retry(format!(
                "no thread for blocking code: {error}"
            )));
        }
        receiver.await.unwrap_or_else(|_| {
            let message = "panicked: blocking code ended without a result";
            Err(TaskError::of(
                TaskErrorKind::Retry,
                FailureKind::Panic,
                message,
            ))
        })
    }

    /// Whether blocking code of this attempt is still running.
    pub(crate) fn is_blocking(&self) -> bool {
        self.blocking().running.load(SeqCst) > 0
    }

    /// Waits until no blocking code of this attempt runs. For one caller at a time.
    pub(crate) async fn blocking_ended(&self) {
        while self.is_blocking() {
            self.blocking().ended.notified().await;
        }
    }
}
