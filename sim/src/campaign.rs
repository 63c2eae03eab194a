//! Runs many seeds on all processors.

use std::{
    env, fs,
    ops::Range,
    path::PathBuf,
    process::{Command, ExitCode},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::{fleet, generate, read};

/// The number of failures after which a campaign ends.
const MAX_FAILURES: usize = 10;

/// A run of consecutive seeds.
pub(crate) struct Campaign {
    next: AtomicU64,
    done: AtomicUsize,
    failed: AtomicUsize,
}

impl Campaign {
    pub(crate) fn from(seed: u64) -> Self {
        Self {
            next: AtomicU64::new(seed),
            done: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
        }
    }

    /// Seeds from the current time, which have not been run before.
    pub(crate) fn fresh() -> Self {
        let age = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self::from(age.as_millis() as u64 * 1_000)
    }

    pub(crate) fn run_for(self, time: Duration) -> ExitCode {
        let end = Instant::now() + time;
        self.run(|_| Instant::now() < end)
    }

    pub(crate) fn run_up_to(self, end: u64) -> ExitCode {
        self.run(|seed| seed < end)
    }

    fn run(self, may_run: impl Fn(u64) -> bool + Sync) -> ExitCode {
        let (start, first) = (Instant::now(), self.next.load(SeqCst));
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let seed = self.next.fetch_add(1, SeqCst);
                        if !may_run(seed) || self.failed.load(SeqCst) >= MAX_FAILURES {
                            return;
                        }
                        self.run_one(seed);
                    }
                });
            }
        });
        let (done, took) = (self.done.load(SeqCst), start.elapsed());
        let failed = self.failed.load(SeqCst);
        println!(
            "{done} seeds from {first} in {took:.1?}, {:.0} per second, {} failed",
            done as f64 / took.as_secs_f64(),
            failed
        );
        ExitCode::from(u8::from(failed > 0))
    }

    fn run_one(&self, seed: u64) {
        let scenario = generate::scenario(seed);
        let report = thread::Builder::new()
            .spawn(move || fleet::run(&scenario))
            .map(thread::JoinHandle::join);
        self.done.fetch_add(1, SeqCst);
        match report {
            Ok(Ok(report)) => {
                if let Some(broken) = report.broken.first() {
                    println!("seed {seed}: {broken}");
                    self.failed.fetch_add(1, SeqCst);
                }
            }
            _ => {
                println!("seed {seed}: panicked");
                self.failed.fetch_add(1, SeqCst);
            }
        }
    }
}

fn seeds() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("seeds")
}

/// Runs the scenarios in `seeds/`.
pub(crate) fn run_kept() -> ExitCode {
    let Ok(files) = fs::read_dir(seeds()) else {
        eprintln!("cannot read {}", seeds().display());
        return ExitCode::FAILURE;
    };
    let mut paths: Vec<_> = files.flatten().map(|file| file.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "json"));
    paths.sort();
    let mut failed = 0;
    for path in &paths {
        let name = path.file_stem().unwrap_or_default().display();
        match read(path) {
            Ok(scenario) => {
                let report = fleet::run(&scenario);
                if let Some(broken) = report.broken.first() {
                    failed += 1;
                    println!("{name}: {broken}");
                }
            }
            Err(error) => {
                failed += 1;
                println!("{name}: {error}");
            }
        }
    }
    println!("{} kept scenarios, {failed} failed", paths.len());
    ExitCode::from(u8::from(failed > 0))
}

/// Runs each seed twice in separate processes.
pub(crate) fn run_twice(seeds: Range<u64>) -> ExitCode {
    let Ok(program) = env::current_exe() else {
        return ExitCode::FAILURE;
    };
    let trace = |seed: u64| {
        let mut command = Command::new(&program);
        command.args(["trace", &seed.to_string()]);
        command.output().map(|output| output.stdout)
    };
    let (mut differ, count) = (0, seeds.end - seeds.start);
    for seed in seeds {
        match (trace(seed), trace(seed)) {
            (Ok(one), Ok(other)) if one == other && !one.is_empty() => {}
            _ => {
                differ += 1;
                println!("seed {seed}: the traces differ");
            }
        }
    }
    println!("{count} seeds run twice, {differ} differ");
    ExitCode::from(u8::from(differ > 0))
}
