//! Quiet mode: the server finishes its tasks and leases no more.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use tokio::sync::Notify;

use super::{Shared, signals::SignalRequests};
use crate::{broker::QuietRequest, sync::Mutex, task::Timestamp};

/// Whether a server is quiet, and the request that decided it.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    on: AtomicBool,
    last: Mutex<Last>,
    /// Notified at each change.
    pub(super) changed: Notify,
}

/// The last request.
#[derive(Debug, Default)]
struct Last {
    /// When quiet mode was last set in this process, or the server was started, by the broker's clock.
    here: Timestamp,
    /// When the last request read from the broker was made. The broker returns it again at each heartbeat.
    requested: Option<Timestamp>,
}

impl Quiet {
    pub(super) fn is_on(&self) -> bool {
        self.on.load(SeqCst)
    }

    /// Ignores requests from before the start: they were made to an earlier server of the same name.
    pub(super) fn ignore_before(&self, started: Timestamp) {
        let mut last = self.last.lock();
        last.here = last.here.max(started);
    }

    /// Sets it from this process. Returns whether it changed.
    fn set(&self, quiet: bool, now: Timestamp) -> bool {
        let mut last = self.last.lock();
        last.here = now;
        self.on.swap(quiet, SeqCst) != quiet
    }

    /// Follows a request from the broker, unless it is known already or older than the last change in this process.
    /// Returns whether quiet mode changed.
    fn follow(&self, request: QuietRequest) -> bool {
        let mut last = self.last.lock();
        if last.requested == Some(request.at) || request.at < last.here {
            return false;
        }
        last.requested = Some(request.at);
        self.on.swap(request.quiet, SeqCst) != request.quiet
    }
}

impl Shared {
    /// Stops leasing, or resumes it. Running tasks finish; tasks that have not started are released.
    pub(super) fn set_quiet(&self, quiet: bool) {
        if self.quiet.set(quiet, self.broker.now()) {
            self.quiet_has_changed(quiet);
        }
    }

    /// Follows a request returned by a heartbeat.
    pub(super) fn follow_request(&self, request: QuietRequest) {
        if self.quiet.follow(request) {
            self.quiet_has_changed(request.quiet);
        }
    }

    /// Becomes quiet at each signal, and immediately in a process that has already received one.
    pub(super) async fn watch_quiet_signals(self: Arc<Self>) {
        let mut requests = SignalRequests::of_process().quiet.subscribe();
        let mut seen = 0;
        loop {
            let more = async { requests.wait_for(|count| *count > seen).await.map(drop) };
            if !self.runs_until(more).await {
                return;
            }
            seen = *requests.borrow_and_update();
            self.set_quiet(true);
        }
    }

    fn quiet_has_changed(&self, quiet: bool) {
        if quiet {
            tracing::info!(worker = %self.worker, "the server is quiet: it finishes its running tasks and leases no more");
            for job in self.inbox.take_waiting().into_iter().rev() {
                self.release(job.leased, job.queue);
            }
        } else {
            tracing::info!(worker = %self.worker, "the server resumes leasing");
        }
        self.slots.wake_fetcher();
        self.quiet.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn request(quiet: bool, millis: u64) -> QuietRequest {
        QuietRequest {
            quiet,
            at: at(millis),
        }
    }

    #[test]
    fn a_request_is_followed_once_and_the_latest_one_wins() {
        let quiet = Quiet::default();
        quiet.set(false, at(10));
        assert!(quiet.follow(request(true, 20)) && quiet.is_on());
        // The broker returns it again.
        assert!(!quiet.follow(request(true, 20)));
        assert!(quiet.set(false, at(20)));
        assert!(!quiet.follow(request(true, 20)) && !quiet.is_on());
        // Made before the change in this process, and read after it.
        assert!(quiet.set(true, at(40)));
        assert!(!quiet.follow(request(false, 30)) && quiet.is_on());
        assert!(quiet.follow(request(false, 50)) && !quiet.is_on());
    }

    #[test]
    fn a_request_from_before_the_start_is_ignored() {
        let quiet = Quiet::default();
        quiet.ignore_before(at(10));
        assert!(!quiet.follow(request(true, 9)) && !quiet.is_on());
        assert!(quiet.follow(request(true, 10)) && quiet.is_on());
    }

    #[test]
    fn setting_the_current_mode_again_counts_as_the_latest_request() {
        let quiet = Quiet::default();
        quiet.set(true, at(10));
        assert!(!quiet.set(true, at(30)));
        assert!(!quiet.follow(request(false, 20)) && quiet.is_on());
    }
}
