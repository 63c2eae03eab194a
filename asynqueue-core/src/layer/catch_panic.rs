//! Turns a panic into an error with a backtrace.

use std::{
    any::Any,
    backtrace::Backtrace,
    cell::{Cell, RefCell},
    future::{poll_fn, ready},
    panic::{self, AssertUnwindSafe},
    sync::Once,
    task::Poll,
};

use tower_layer::Layer;

use super::{BoxProcess, TaskService};
use crate::{
    process::{TaskError, TaskErrorKind},
    task::FailureKind,
};

/// Makes panics of the service into errors that are retried, with the backtrace kept on the task.
///
/// The server has it around every process. Has no effect where the program is built with `panic = "abort"`.
#[derive(Clone, Copy, Debug, Default)]
pub struct CatchPanicLayer;

impl<S: TaskService> Layer<S> for CatchPanicLayer {
    type Service = BoxProcess;

    fn layer(&self, inner: S) -> BoxProcess {
        install_hook();
        let inner = inner.boxed();
        BoxProcess::from_fn(move |request| match catch(|| inner.run(request)) {
            Ok(mut attempt) => Box::pin(poll_fn(move |cx| {
                catch(|| attempt.as_mut().poll(cx)).unwrap_or_else(|error| Poll::Ready(Err(error)))
            })),
            Err(error) => Box::pin(ready(Err(error))),
        })
    }
}

thread_local! {
    /// Whether a panic on this thread is going to be caught here.
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    /// Where the last such panic happened.
    static BACKTRACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `f`, and makes its panic an error.
pub(crate) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, TaskError> {
    let outer = CATCHING.replace(true);
    // What `f` left half done is dropped with the attempt, and never looked at again.
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    CATCHING.set(outer);
    result.map_err(|payload| panicked(payload).with_backtrace(BACKTRACE.take()))
}

/// The error of an attempt that panicked with `payload`.
pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> TaskError {
    let error = format!("panicked: {}", message(&*payload));
    discard(payload);
    TaskError::of(TaskErrorKind::Retry, FailureKind::Panic, error)
}

/// Drops a value of the application's, whose destructor may panic.
pub(crate) fn discard<T>(value: T) {
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| drop(value))) {
        tracing::error!(
            panic = message(&*payload),
            "a destructor of the application panicked"
        );
        // Its own destructor may panic in turn, without end.
        std::mem::forget(payload);
    }
}

fn message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(a value that is not text)")
}

/// Only a panic hook runs early enough to see the panicking stack. The program's own hook still runs after it.
fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let next = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if CATCHING.get() {
                let place = info
                    .location()
                    .map_or_else(String::new, |at| format!("at {at}\n"));
                BACKTRACE.set(Some(format!("{place}{}", Backtrace::force_capture())));
            }
            next(info);
        }));
    });
}
