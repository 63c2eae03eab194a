//! Quiet mode: a server that keeps running and leases nothing.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use tokio::sync::Notify;

use super::{Shared, signals::Asked};
use crate::{broker::QuietRequest, sync::Mutex, task::Timestamp};

/// Whether a server is quiet, and since when by whose word.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    on: AtomicBool,
    last: Mutex<Last>,
    /// Notified at each change.
    pub(super) changed: Notify,
}

/// The last word on it.
#[derive(Debug, Default)]
struct Last {
    /// When it was said in this process, or the server was started, by the broker's clock.
    here: Timestamp,
    /// When the last request was made that was read from the broker, which returns it again at each beat.
    requested: Option<Timestamp>,
}

impl Quiet {
    pub(super) fn is_on(&self) -> bool {
        self.on.load(SeqCst)
    }

    /// Passes over requests from before the start: they were made to a server of the same name that was killed.
    pub(super) fn begin(&self, started: Timestamp) {
        let mut last = self.last.lock();
        last.here = last.here.max(started);
    }

    /// Says it in this process; returns whether that is a change.
    fn set(&self, quiet: bool, now: Timestamp) -> bool {
        let mut last = self.last.lock();
        last.here = now;
        self.on.swap(quiet, SeqCst) != quiet
    }

    /// Follows a request of the broker unless it is known already, or older than what was said here; returns whether that
    /// is a change.
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
    /// Stops leasing, or resumes it. Running tasks finish; what has not started goes back.
    pub(super) fn set_quiet(&self, quiet: bool) {
        if self.quiet.set(quiet, self.broker.now()) {
            self.quiet_has_changed(quiet);
        }
    }

    /// Does what the broker returns from a beat.
    pub(super) fn follow_request(&self, request: QuietRequest) {
        if self.quiet.follow(request) {
            self.quiet_has_changed(request.quiet);
        }
    }

    /// Becomes quiet at each signal, and at once in a process that had one.
    pub(super) async fn hear_quiet(self: Arc<Self>) {
        let mut asked = Asked::of_process().quiet.subscribe();
        let mut heard = 0;
        loop {
            let more = async { asked.wait_for(|asked| *asked > heard).await.map(drop) };
            if !self.runs_until(more).await {
                return;
            }
            heard = *asked.borrow_and_update();
            self.set_quiet(true);
        }
    }

    fn quiet_has_changed(&self, quiet: bool) {
        if quiet {
            tracing::info!(worker = %self.worker, "the server is quiet: it finishes what runs and leases nothing");
            for job in self.inbox.take_waiting().into_iter().rev() {
                self.give_back(job.leased, job.queue);
            }
        } else {
            tracing::info!(worker = %self.worker, "the server leases tasks again");
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
    fn a_request_is_followed_once_and_the_latest_word_wins() {
        let quiet = Quiet::default();
        quiet.set(false, at(10));
        assert!(quiet.follow(request(true, 20)) && quiet.is_on());
        // The broker returns it again.
        assert!(!quiet.follow(request(true, 20)));
        assert!(quiet.set(false, at(20)));
        assert!(!quiet.follow(request(true, 20)) && !quiet.is_on());
        // Made before what was said here, and read after it.
        assert!(quiet.set(true, at(40)));
        assert!(!quiet.follow(request(false, 30)) && quiet.is_on());
        assert!(quiet.follow(request(false, 50)) && !quiet.is_on());
    }

    #[test]
    fn a_request_from_before_the_start_is_passed_over() {
        let quiet = Quiet::default();
        quiet.begin(at(10));
        assert!(!quiet.follow(request(true, 9)) && !quiet.is_on());
        assert!(quiet.follow(request(true, 10)) && quiet.is_on());
    }

    #[test]
    fn saying_again_what_is_so_counts_as_the_latest_word() {
        let quiet = Quiet::default();
        quiet.set(true, at(10));
        assert!(!quiet.set(true, at(30)));
        assert!(!quiet.follow(request(false, 20)) && quiet.is_on());
    }
}
