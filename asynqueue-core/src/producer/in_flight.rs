//! Counts what is under way, so that closing can wait for it.

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
    /// Counts the caller in until it drops the guard; `None` once closed.
    pub(super) fn enter(&self) -> Option<Guard<'_>> {
        let mut count = self.count.lock();
        if count.closed {
            return None;
        }
        count.entered += 1;
        Some(Guard(self))
    }

    /// Lets nobody in any more, and waits until all are out.
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
