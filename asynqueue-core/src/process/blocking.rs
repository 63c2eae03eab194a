//! Blocking code: it runs on separate threads, and counts as part of the handler that started it.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
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

/// The bounds on the blocking code of a slot.
pub(crate) struct Bounds {
    /// The server's remaining threads for blocking code.
    threads: Arc<Semaphore>,
    /// Held while something occupies the slot.
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
    /// The attempt has ended, and no more blocking code may start.
    has_ended: AtomicBool,
}

/// Counts one call while it runs.
struct Counted {
    context: Context,
    /// Whether no other call was running for this attempt when it started.
    is_first: bool,
}

impl Counted {
    fn new(context: &Context) -> Result<Self, TaskError> {
        let blocking = context.blocking();
        if blocking.has_ended.load(SeqCst) {
            return Err(TaskError::retry(
                "the attempt has ended: run blocking code before the handler returns",
            ));
        }
        Ok(Self {
            context: context.clone(),
            is_first: blocking.running.fetch_add(1, SeqCst) == 0,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let blocking = self.context.blocking();
        if blocking.running.fetch_sub(1, SeqCst) == 1 {
            blocking.ended.notify_one();
        }
    }
}

impl Context {
    /// Runs CPU-bound or blocking code on a separate thread, so that it delays nothing else. `work` receives a token
    /// that is cancelled when the task is cancelled, times out or loses its lease, or the server shuts down. Check it
    /// between two steps.
    ///
    /// The slot stays occupied until `work` returns, even if the handler has timed out. If `work` does not stop within
    /// the [grace](crate::server::ServerBuilder::cancel_grace) after that, it counts as
    /// [abandoned](crate::server::ServerStats::abandoned). If the handler returns first, the token is cancelled and the
    /// handler's result counts.
    ///
    /// One call per attempt always gets a thread. Further concurrent calls of all attempts share a number of threads
    /// equal to the server's concurrency: `work` waits for one of these until the token is cancelled.
    ///
    /// ```
    /// # use asynqueue_core::process::{Context, Payload, TaskError};
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
    /// If `work` panics (a failure of kind [`Panic`](crate::task::FailureKind::Panic)), the attempt is cancelled before
    /// a thread is free or has already ended, or the operating system cannot start a thread.
    pub async fn run_blocking<R, F>(&self, work: F) -> Result<R, TaskError>
    where
        F: FnOnce(&CancellationToken) -> R + Send + 'static,
        R: Send + 'static,
    {
        let bounds = self.bounds();
        let counted = Counted::new(self)?;
        let cancelled = self.cancellation_token().clone();
        let permit = match &bounds {
            Some(bounds) if !counted.is_first => {
                let permit = Arc::clone(&bounds.threads).acquire_owned();
                let permit = cancelled.run_until_cancelled(permit).await;
                let stopped =
                    || TaskError::retry("cancelled before a thread was free for blocking code");
                // The semaphore is never closed.
                permit.ok_or_else(stopped)?.ok()
            }
            _ => None,
        };
        let occupied = (counted, permit, bounds);
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
            // There is no receiver if the handler has timed out.
            let _ = sender.send(worked);
        });
        if let Err(error) = spawned {
            return Err(TaskError::retry(format!(
                "could not start a thread for blocking code: {error}"
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

    /// Prevents further blocking code for this attempt.
    pub(crate) fn end_blocking(&self) {
        self.blocking().has_ended.store(true, SeqCst);
    }

    /// Whether blocking code of this attempt is running.
    pub(crate) fn is_blocking(&self) -> bool {
        self.blocking().running.load(SeqCst) > 0
    }

    /// Waits until no blocking code of this attempt runs. Supports one caller at a time.
    pub(crate) async fn blocking_ended(&self) {
        while self.is_blocking() {
            self.blocking().ended.notified().await;
        }
    }
}
