//! An await that is a crash point, for the fakes that a test gives its handler.

use std::{
    cell::Cell,
    future::Future,
    panic::Location,
    pin::Pin,
    task::{Context, Poll},
};

thread_local! {
    /// The crash point that was reached last in the poll under way.
    static REACHED: Cell<Option<&'static Location<'static>>> = const { Cell::new(None) };
}

/// Waits once, as a call to another machine does, so that [`crash_everywhere`](super::crash_everywhere) can let the handler crash
/// here. A fake that stands for a network or a database awaits it before its effect and after it: before, the crash loses the
/// request; after, it loses the response. A finding then names the line in which this was called.
///
/// Anywhere else it only yields to other tasks. What yields by itself, such as [`tokio::task::yield_now`], a timer or a channel
/// that is empty, is a crash point as well, of which no line is known.
///
/// ```
/// use asynqueue_core::testing::crash_point;
/// use std::sync::Mutex;
///
/// #[derive(Default)]
/// struct Bank(Mutex<Vec<u64>>);
///
/// impl Bank {
///     async fn charge(&self, cents: u64) {
///         crash_point().await; // the request is under way
///         self.0.lock().expect("not poisoned").push(cents);
///         crash_point().await; // the response is under way
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// # let bank = Bank::default();
/// # bank.charge(1).await;
/// # assert_eq!(*bank.0.lock().unwrap(), [1]);
/// # }
/// ```
#[track_caller]
pub fn crash_point() -> CrashPoint {
    CrashPoint {
        place: Location::caller(),
        passed: false,
    }
}

/// The future of [`crash_point`]: pending once, then ready.
#[derive(Debug)]
#[must_use = "a crash point is one once it is awaited"]
pub struct CrashPoint {
    place: &'static Location<'static>,
    passed: bool,
}

impl Future for CrashPoint {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.passed {
            return Poll::Ready(());
        }
        self.passed = true;
        REACHED.set(Some(self.place));
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Polls, and says at which [`crash_point`] that came to wait, if at any. Of several that wait side by side it is the last.
pub(super) fn watched<R>(poll: impl FnOnce() -> R) -> (R, Option<&'static Location<'static>>) {
    // A handler that tests another one by itself is not what waits there.
    let outer = REACHED.take();
    let polled = poll();
    (polled, REACHED.replace(outer))
}
