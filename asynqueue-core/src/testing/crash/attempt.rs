//! One attempt, which can stop at a given await.

use std::{
    future::poll_fn,
    panic::Location,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{self, Poll, Wake, Waker},
    time::Duration,
};

use futures_util::task::AtomicWaker;

use super::point;
use crate::{
    layer::{BoxProcess, TaskFuture, TaskOutput, TaskRequest, discard, expired},
    process::{Context, TaskError},
};

/// How long after its timeout an attempt is abandoned, if a layer waits and the handler's own timeout cannot end it.
const GRACE: Duration = Duration::from_secs(1);

/// An attempt that has started and not ended.
pub(super) struct Attempt {
    future: TaskFuture,
    context: Context,
    alarm: Arc<Alarm>,
    awaits: usize,
    place: Option<&'static Location<'static>>,
}

/// Records whether an attempt was woken, so that it is polled for no other reason: each pending poll is counted.
struct Alarm {
    rung: AtomicBool,
    test: AtomicWaker,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, SeqCst);
        self.test.wake();
    }
}

impl Attempt {
    pub(super) fn new(service: &BoxProcess, context: Context) -> Self {
        let request = TaskRequest::new(context.clone());
        Self {
            future: service.run(request),
            context,
            alarm: Arc::new(Alarm {
                rung: AtomicBool::new(true),
                test: AtomicWaker::new(),
            }),
            awaits: 0,
            place: None,
        }
    }

    /// How often it has waited so far.
    pub(super) fn awaits(&self) -> usize {
        self.awaits
    }

    /// The crash point at which it waits, if known.
    pub(super) fn place(&self) -> Option<&'static Location<'static>> {
        self.place
    }

    /// Runs it until it ends, or until it waits for the `stop`th time; then it has no result yet.
    pub(super) async fn run_to(&mut self, stop: usize) -> Option<Result<TaskOutput, TaskError>> {
        // Uses a full poll budget, so that tokio makes it wait in the same places each time.
        tokio::task::yield_now().await;
        let end = self.context.deadline() + GRACE;
        let run = tokio::time::timeout_at(end.into(), poll_fn(|cx| self.poll_to(stop, cx)));
        let result = match run.await {
            Ok(result) => result,
            Err(_) => {
                self.discard();
                Some(Err(expired(&self.context)))
            }
        };
        if result.is_some() {
            end_blocking(&self.context).await;
        }
        result
    }

    fn poll_to(
        &mut self,
        stop: usize,
        cx: &task::Context<'_>,
    ) -> Poll<Option<Result<TaskOutput, TaskError>>> {
        self.alarm.test.register(cx.waker());
        if !self.alarm.rung.swap(false, SeqCst) {
            return Poll::Pending;
        }
        let waker = Waker::from(Arc::clone(&self.alarm));
        let mut cx = task::Context::from_waker(&waker);
        let (polled, place) = point::watched(|| self.future.as_mut().poll(&mut cx));
        if let Poll::Ready(result) = polled {
            return Poll::Ready(Some(result));
        }
        self.awaits += 1;
        self.place = place;
        match self.awaits >= stop {
            true => Poll::Ready(None),
            false => Poll::Pending,
        }
    }

    /// Drops it where it waits.
    pub(super) async fn crash(mut self) {
        self.context.cancellation_token().cancel();
        self.discard();
        end_blocking(&self.context).await;
    }

    /// Drops what the handler owns, which may panic.
    fn discard(&mut self) {
        let gone = Box::pin(std::future::pending());
        discard(std::mem::replace(&mut self.future, gone));
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.discard();
    }
}

/// Waits for blocking code, which dropping the attempt cannot end. It must not run beside the next attempt.
async fn end_blocking(context: &Context) {
    context.end_blocking();
    if context.is_blocking() {
        context.cancellation_token().cancel();
        context.blocking_ended().await;
    }
}
