//! Records which tasks have run, how often and how soon.

use std::{
    sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

/// A slot for each task of a phase.
#[derive(Debug)]
pub(super) struct Ledger {
    epoch: Instant,
    /// How often each task has run.
    runs: Vec<AtomicU8>,
    /// When each task was sent, and how long it took to start, in nanoseconds. Empty if latency is not measured.
    times: Vec<AtomicU64>,
    done: AtomicUsize,
    progress: Notify,
}

impl Ledger {
    pub(super) fn new(tasks: usize, with_times: bool) -> Self {
        let times = if with_times { tasks } else { 0 };
        Self {
            epoch: Instant::now(),
            runs: (0..tasks).map(|_| AtomicU8::new(0)).collect(),
            times: (0..times).map(|_| AtomicU64::new(0)).collect(),
            done: AtomicUsize::new(0),
            progress: Notify::new(),
        }
    }

    /// Records that a task is about to be sent.
    pub(super) fn send(&self, seq: usize) {
        self.times[seq].store(self.nanos(), Relaxed);
    }

    /// Records that a task runs.
    pub(super) fn run(&self, seq: usize) {
        let Some(runs) = self.runs.get(seq) else {
            return;
        };
        if runs.fetch_add(1, Relaxed) > 0 {
            return;
        }
        if let Some(time) = self.times.get(seq) {
            time.store(self.nanos() - time.load(Relaxed), Relaxed);
        }
        let done = self.done.fetch_add(1, Relaxed) + 1;
        if done == self.runs.len() || !self.times.is_empty() {
            self.progress.notify_one();
        }
    }

    fn nanos(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Waits until this many tasks have run. Gives up if none runs for 30 seconds: the others count as lost.
    pub(super) async fn wait_for(&self, tasks: usize) {
        let mut before = self.done.load(Relaxed);
        while self.done.load(Relaxed) < tasks {
            let progress = self.progress.notified();
            if tokio::time::timeout(Duration::from_secs(30), progress)
                .await
                .is_err()
            {
                let now = self.done.load(Relaxed);
                if now == before {
                    return;
                }
                before = now;
            }
        }
    }

    /// Waits until all tasks have run.
    pub(super) async fn wait(&self) {
        self.wait_for(self.runs.len()).await;
    }

    pub(super) fn lost(&self) -> u64 {
        self.runs
            .iter()
            .filter(|runs| runs.load(Relaxed) == 0)
            .count() as u64
    }

    pub(super) fn duplicated(&self) -> u64 {
        self.runs
            .iter()
            .filter(|runs| runs.load(Relaxed) > 1)
            .count() as u64
    }

    /// The sorted times from sending to starting, of the tasks that have run.
    pub(super) fn latencies(&self) -> Vec<Duration> {
        let ran = self
            .times
            .iter()
            .zip(&self.runs)
            .filter(|(_, runs)| runs.load(Relaxed) > 0);
        let mut latencies: Vec<_> = ran
            .map(|(time, _)| Duration::from_nanos(time.load(Relaxed)))
            .collect();
        latencies.sort_unstable();
        latencies
    }
}
