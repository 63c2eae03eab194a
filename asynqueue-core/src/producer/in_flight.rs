//! Counts the calls in progress, so that closing can wait for them.

use tokio::sync::Notify;

use crate::sync::Mutex;

#[derive(Debug, Default)]
pub(super) struct InFlight {
    count: Mutex<Count>,
    idle: Notify,
}

#[derive(Debug, Default)]
struct Count {
    entered: usize,
    closed: bool,
}

impl InFlight {
    /// Counts a call until the guard is dropped. `None` after closing.
    pub(super) fn enter(&self) -> Option<Guard<'_>> {
        let mut count = self.count.lock();
        if count.closed {
            return None;
        }
        count.entered += 1;
        Some(Guard(self))
    }

    /// Refuses new calls, and waits until all calls in progress have ended.
    pub(super) async fn close(&self) {
        let idle = self.idle.notified();
        tokio::pin!(idle);
        idle.as_mut().enable();
        let entered = {
            let mut count = self.count.lock();
            count.closed = true;
            count.entered
        };
        if entered > 0 {
            idle.await;
        }
    }
}

pub(super) struct Guard<'a>(&'a InFlight);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let mut count = self.0.count.lock();
        count.entered -= 1;
        if count.closed && count.entered == 0 {
            self.0.idle.notify_waiters();
        }
    }
}
