//! An await that is a crash point, for fakes.

use std::{
    cell::Cell,
    future::Future,
    panic::Location,
    pin::Pin,
    task::{Context, Poll},
};

thread_local! {
    /// The crash point that was reached last in the current poll.
    static REACHED: Cell<Option<&'static Location<'static>>> = const { Cell::new(None) };
}

/// Waits once, like a call to another machine, so that [`crash_everywhere`](super::crash_everywhere) can crash the
/// handler here. A fake network or database awaits it before and after its effect: a crash before loses the request,
/// and a crash after loses the response. A finding names the line of this call.
///
/// Outside of crash tests it only yields to other tasks. Anything that yields, such as [`tokio::task::yield_now`], a
/// timer or an empty channel, is a crash point as well, but without a known line.
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
///         crash_point().await; // the request is in flight
///         self.0.lock().expect("not poisoned").push(cents);
///         crash_point().await; // the response is in flight
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
#[must_use = "a crash point has no effect unless it is awaited"]
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

/// Polls, and returns the [`crash_point`] that is waiting afterwards, if any. If several wait concurrently, it is the
/// last one.
pub(super) fn watched<R>(poll: impl FnOnce() -> R) -> (R, Option<&'static Location<'static>>) {
    // If a handler runs a crash test, its points do not count for the outer one.
    let outer = REACHED.take();
    let polled = poll();
    (polled, REACHED.replace(outer))
}
