//! The report of a simulated fleet.

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
    /// The seed that was run.
    pub seed: u64,
    /// The faults that happened.
    pub strikes: Vec<Strike>,
    /// All events, in order.
    pub entries: Vec<Entry>,
    /// The tasks in the store at the end.
    pub tasks: Vec<TaskInfo>,
    /// The broken promises.
    pub broken: Vec<Broken>,
}

/// If the time of a fleet has not advanced for this long, by the operating system's clock, one of its tasks never
/// waits.
const STANDS_STILL: Duration = Duration::from_secs(30);

/// Runs a fleet on a separate thread, so that thread-local data starts fresh with each seed.
pub(super) fn run(fleet: &Fleet) -> Report {
    let (seed, seconds) = (fleet.seed, Arc::new(AtomicU64::new(0)));
    let (fleet, ticks) = (fleet.clone(), Arc::clone(&seconds));
    let (done, ended) = mpsc::channel();
    let running = thread::Builder::new()
        .name(format!("fleet-{seed}"))
        .spawn(move || {
            let report = run_here(&fleet, &ticks);
            // Fails if the fleet stood still, because nothing waits for it then.
            let _ = done.send(());
            report
        })
        .unwrap_or_else(|error| panic!("could not start a thread for a fleet: {error}"));
    let mut before = None;
    // A panic ends the wait too.
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(STANDS_STILL) {
        let now = seconds.load(SeqCst);
        assert!(
            before.replace(now) != Some(now),
            "fleet {seed} stands still after {now} seconds: one of its tasks is woken repeatedly without waiting"
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
        .unwrap_or_else(|error| panic!("could not build a runtime for a fleet: {error}"));
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
    /// All events, one per line.
    pub fn trace(&self) -> String {
        let mut trace = String::new();
        for entry in &self.entries {
            // Writing to a string cannot fail.
            let _ = writeln!(trace, "{entry}");
        }
        trace
    }

    /// Panics if a promise was broken. The message contains the seed, the faults and the broken promises.
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
