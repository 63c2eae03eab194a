//! What a simulated fleet has shown.

use std::{
    fmt::Write,
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use tokio::time::sleep;

use super::{Broken, Entry, Fleet, Strike, drive::drive, judge::judge};
use crate::broker::TaskInfo;

/// The outcome of a fleet.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The faults that struck.
    pub strikes: Vec<Strike>,
    /// What happened, in order.
    pub entries: Vec<Entry>,
    /// The tasks that the store keeps at the end.
    pub tasks: Vec<TaskInfo>,
    /// The promises that were not kept.
    pub broken: Vec<Broken>,
}

/// A fleet whose time has not moved for so long, by the operating system's clock, has a task that never waits.
const STANDS_STILL: Duration = Duration::from_secs(30);

/// Runs a fleet on a thread of its own: what a thread keeps to itself begins anew with each seed.
pub(super) fn run(fleet: &Fleet) -> Report {
    let (seed, seconds) = (fleet.seed, Arc::new(AtomicU64::new(0)));
    let (fleet, ticks) = (fleet.clone(), Arc::clone(&seconds));
    let (done, ended) = mpsc::channel();
    let running = thread::Builder::new()
        .name(format!("fleet-{seed}"))
        .spawn(move || {
            let report = run_here(&fleet, &ticks);
            // Nobody waits for a fleet that has stood still.
            let _ = done.send(());
            report
        })
        .unwrap_or_else(|error| panic!("no thread for a fleet: {error}"));
    let mut before = None;
    // A panic ends the wait too.
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(STANDS_STILL) {
        let now = seconds.load(SeqCst);
        assert!(
            before.replace(now) != Some(now),
            "fleet {seed} stands still after {now} seconds: one of its tasks is woken again and again, and waits for nothing"
        );
    }
    running.join().unwrap_or_else(|panic| resume_unwind(panic))
}

fn run_here(fleet: &Fleet, seconds: &Arc<AtomicU64>) -> Report {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(
        &fleet.seed.to_le_bytes(),
    ));
    let runtime = builder
        .build()
        .unwrap_or_else(|error| panic!("no runtime for a fleet: {error}"));
    let ticks = Arc::clone(seconds);
    runtime.spawn(async move {
        loop {
            sleep(Duration::from_secs(1)).await;
            ticks.fetch_add(1, SeqCst);
        }
    });
    let remains = runtime
        .block_on(drive(fleet))
        .unwrap_or_else(|error| panic!("the store of fleet {} failed: {error}", fleet.seed));
    let broken = judge(&remains, fleet);
    Report {
        seed: fleet.seed,
        strikes: fleet.plan(),
        entries: remains.entries,
        tasks: remains.tasks,
        broken,
    }
}

impl Report {
    /// All that happened, a line each.
    pub fn trace(&self) -> String {
        let mut trace = String::new();
        for entry in &self.entries {
            // Writing to a string cannot fail.
            let _ = writeln!(trace, "{entry}");
        }
        trace
    }

    /// Panics if a promise was not kept; the message has the seed, the faults and the broken promises.
    #[track_caller]
    pub fn assert_kept(&self) -> &Self {
        assert!(self.broken.is_empty(), "{}", self.complaint());
        self
    }

    fn complaint(&self) -> String {
        let mut text = format!("seed {} breaks {} promises:", self.seed, self.broken.len());
        for broken in self.broken.iter().take(20) {
            let _ = write!(text, "\n  {broken}");
        }
        text.push_str("\nfaults:");
        for strike in &self.strikes {
            let _ = write!(text, "\n  {strike:?}");
        }
        text
    }
}
