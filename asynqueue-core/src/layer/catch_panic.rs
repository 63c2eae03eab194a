//! Turning panics into errors with a backtrace.

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

/// Turns panics of the service into retried errors. The backtrace is stored with the task.
///
/// The server applies it to every handler. It has no effect in a program built with `panic = "abort"`.
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
    /// Whether a panic on this thread will be caught here.
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    /// The backtrace of the last such panic.
    static BACKTRACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `f`, and turns a panic into an error.
pub(crate) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, TaskError> {
    let outer = CATCHING.replace(true);
    // The state that `f` left behind is dropped with the attempt and not used again.
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

/// Drops a value of the application, whose destructor may panic.
pub(crate) fn discard<T>(value: T) {
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| drop(value))) {
        tracing::error!(
            panic = message(&*payload),
            "a destructor panicked in application code"
        );
        // Its destructor could panic again, without end.
        std::mem::forget(payload);
    }
}

fn message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(not a string)")
}

/// Installs a panic hook, since only a hook runs early enough to see the panicking stack. The program's own hook runs
/// after it.
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
