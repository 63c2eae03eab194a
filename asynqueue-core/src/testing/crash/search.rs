//! Tries one crash after the other, until one is found or none is left.

use std::{
    fmt::Debug,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
};

use futures_util::FutureExt;

use super::{
    observed::{Compares, Ending, Observed},
    report::{Crash, CrashError, CrashFinding, CrashKind, CrashSummary},
    run::{Plan, Run, Subject},
};
use crate::{layer::panicked, process::ServerState};

/// A running crash test.
pub(super) struct Search<W, F> {
    pub(super) subject: Subject,
    pub(super) state: ServerState,
    pub(super) make: Arc<dyn Fn() -> W + Send + Sync>,
    pub(super) may_fail: bool,
    pub(super) compares: Compares,
    pub(super) check: F,
    pub(super) runs: usize,
}

/// What happened in a run.
struct Ran {
    crash: Option<Crash>,
    /// How often each attempt waited.
    awaits: Vec<usize>,
    /// Each attempt, and how it ended.
    attempts: Vec<String>,
}

impl<W, F, R> Search<W, F>
where
    W: Send + Sync + 'static,
    F: AsyncFn(&W) -> R,
    R: PartialEq + Debug,
{
    /// Starts with the simplest crashes, so that the report is as simple as possible.
    pub(super) async fn run(mut self) -> Result<CrashSummary, CrashError> {
        let (expected, undisturbed) = self.run_once(None).await?;
        self.compare(&expected, None).await?;
        let mut crash_points = 0;
        for kind in [
            CrashKind::Dropped,
            CrashKind::OutcomeLost,
            CrashKind::LateDuplicate,
        ] {
            for (nth, &of) in undisturbed.awaits.iter().enumerate() {
                for at in 1..=self.subject.max_awaits.max(1) {
                    let plan = Plan { kind, nth, at, of };
                    let has_crashed = self.compare(&expected, Some(plan)).await?;
                    crash_points += usize::from(has_crashed && kind == CrashKind::Dropped);
                    // A nondeterministic attempt may have more awaits than the first one.
                    let is_last = !has_crashed && at >= of;
                    if is_last || kind == CrashKind::OutcomeLost {
                        break;
                    }
                }
            }
        }
        Ok(CrashSummary {
            crash_points,
            runs: self.runs,
        })
    }

    /// Runs the task in a new world and compares the result. Returns whether the crash happened.
    async fn compare(
        &mut self,
        expected: &Observed<R>,
        plan: Option<Plan>,
    ) -> Result<bool, CrashError> {
        let (found, ran) = self.run_once(plan).await?;
        let differences = expected.differences(&found, self.compares);
        let event = || self.subject.task.envelope.event.clone();
        match ran.crash {
            crash if differences.is_empty() => Ok(crash.is_some()),
            Some(crash) => Err(CrashError::Found(Box::new(CrashFinding {
                event: event(),
                crash,
                attempts: ran.attempts,
                differences,
            }))),
            None => Err(CrashError::Unsteady {
                event: event(),
                differences,
            }),
        }
    }

    async fn run_once(&mut self, plan: Option<Plan>) -> Result<(Observed<R>, Ran), CrashError> {
        self.runs += 1;
        let mut state = self.state.clone();
        state.insert((self.make)());
        self.subject.process.check_state(&state)?;
        let mut run = Run::new(&self.subject, state).await?;
        let ending = run.finish(plan).await?;
        let has_completed = matches!(ending, Ending::Completed(_));
        if run.crash.is_none() && !has_completed && !self.may_fail {
            // Reported before the check, which would fail for this reason without naming it.
            return Err(CrashError::NotCompleted {
                event: self.subject.task.envelope.event.clone(),
                outcome: ending.to_string(),
                attempts: run.attempts(),
            });
        }
        let world = run.state().get::<W>()?;
        let looked = AssertUnwindSafe(async { (self.check)(world).await });
        let world = match looked.catch_unwind().await {
            Ok(seen) => Ok(seen),
            // Nothing was disturbed: the expectation of the check is wrong.
            Err(panic) if run.crash.is_none() => resume_unwind(panic),
            Err(panic) => Err(panicked(panic).message()),
        };
        let observed = Observed {
            world,
            enqueued: run.enqueued().await?,
            ending,
        };
        let ran = Ran {
            crash: run.crash,
            awaits: run.tried.iter().map(|tried| tried.awaits).collect(),
            attempts: run.attempts(),
        };
        Ok((observed, ran))
    }
}
