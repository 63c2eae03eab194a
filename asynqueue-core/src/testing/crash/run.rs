//! One run of a task, from its first attempt to its end, with at most one crash.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use super::{
    attempt::Attempt,
    observed::{Ending, Show, enqueued},
    report::{Crash, CrashError, CrashKind},
};
use crate::{
    broker::{
        Broker, BrokerError, LeaseRequest, LeaseToken, Leased, NewTask, Outcome, Settlement, all_of,
    },
    layer::{BoxProcess, TaskOutput, discard},
    memory::MemoryBroker,
    process::{AttemptEnd, Context, Provided, ServerState, TaskError},
    producer::EnqueueError,
    registry::ProcessWrapper,
    server::{after_error, counts, lease_expired},
    task::{Clock, Envelope},
    testing::{TestClock, run::LONGEST},
};

/// How long it takes until the task of a lost worker runs again, with the default lease.
const UNTIL_RECLAIMED: Duration = Duration::from_secs(60);

/// What all runs have in common.
pub(super) struct Subject {
    pub(super) process: ProcessWrapper,
    pub(super) service: BoxProcess,
    pub(super) task: NewTask,
    /// The limit of awaits per attempt.
    pub(super) max_awaits: usize,
    /// The limit of attempts per run.
    pub(super) max_attempts: usize,
    pub(super) show: Show,
}

/// A planned crash.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub(super) kind: CrashKind,
    /// In which attempt, from 0.
    pub(super) nth: usize,
    /// At which of its awaits, from 1.
    pub(super) at: usize,
    /// How many awaits this attempt has if it is not disturbed.
    pub(super) of: usize,
}

/// An attempt of a run.
pub(super) struct Tried {
    attempt: u32,
    pub(super) awaits: usize,
    end: String,
}

/// A run on a separate broker and in a separate world.
pub(super) struct Run<'a> {
    subject: &'a Subject,
    clock: TestClock,
    broker: MemoryBroker,
    provided: Arc<Provided>,
    /// Kept for the duration of the run, so that the task blocks tasks that its handler enqueues, as on a server.
    leased: Leased,
    pub(super) tried: Vec<Tried>,
    /// The crash that happened.
    pub(super) crash: Option<Crash>,
}

impl<'a> Run<'a> {
    pub(super) async fn new(subject: &'a Subject, state: ServerState) -> Result<Self, CrashError> {
        let clock = TestClock::default();
        let broker = MemoryBroker::with_clock(clock.clone());
        let task = subject.task.clone();
        let queues = vec![(task.envelope.queue.clone(), 1)];
        let accepted = broker.enqueue(vec![task]).await?;
        if let Some(refused) = accepted.into_iter().find_map(Result::err) {
            return Err(EnqueueError::from(refused).into());
        }
        let request = LeaseRequest::new(queues, 1, LONGEST, worker(0).into());
        let leased = all_of(broker.lease(&request).await)?;
        let missing = || BrokerError::protocol("a pending task was not leased");
        let leased = leased.into_iter().flatten().next().ok_or_else(missing)?;
        let provided = Provided {
            state,
            broker: broker.clone().into(),
        };
        Ok(Self {
            subject,
            clock,
            broker,
            provided: Arc::new(provided),
            leased,
            tried: Vec::new(),
            crash: None,
        })
    }

    /// Runs the task to its end, and then what a crash has left behind.
    pub(super) async fn finish(&mut self, plan: Option<Plan>) -> Result<Ending, CrashError> {
        let mut late = None;
        let mut envelope = Arc::clone(&self.leased.envelope);
        let settlement = loop {
            let nth = self.tried.len();
            if nth >= self.subject.max_attempts {
                return Err(self.endless(format!("it took {nth} attempts"), nth));
            }
            let plan = plan.filter(|plan| plan.nth == nth);
            let settlement = self.try_once(envelope, plan, &mut late).await?;
            match settlement.outcome {
                Outcome::Retry { delay } | Outcome::Snooze { delay } => self.clock.advance(delay),
                Outcome::Release => {}
                Outcome::Complete { .. } | Outcome::Archive | Outcome::Drop => break settlement,
            }
            envelope = settlement.envelope;
        };
        let ending = self.settle(settlement).await?;
        if let Some((nth, attempt)) = late {
            self.resume(nth, attempt).await?;
        }
        Ok(ending)
    }

    /// Runs one attempt, and returns what happens next. A paused attempt is stored in `late`.
    async fn try_once(
        &mut self,
        envelope: Arc<Envelope>,
        plan: Option<Plan>,
        late: &mut Option<(usize, Attempt)>,
    ) -> Result<Settlement, CrashError> {
        let context = self.context(envelope);
        let mut attempt = Attempt::new(&self.subject.service, context.clone());
        let stop_at = plan.filter(|plan| plan.kind != CrashKind::OutcomeLost);
        let too_many = self.subject.max_awaits.saturating_add(1);
        let stop = stop_at.map_or(too_many, |plan| plan.at);
        let result = attempt.run_to(stop).await;
        let awaits = attempt.awaits();
        self.tried.push(Tried {
            attempt: context.attempt(),
            awaits,
            end: result.as_ref().map_or_else(String::new, describe),
        });
        let Some(result) = result else {
            let Some(plan) = stop_at else {
                return Err(self.never_returned(awaits));
            };
            self.crashed(plan, &attempt);
            if plan.kind == CrashKind::LateDuplicate {
                self.note(format_args!("paused at await {awaits}"));
                *late = Some((self.tried.len() - 1, attempt));
            } else {
                self.note(format_args!("dropped at await {awaits}"));
                attempt.crash().await;
            }
            return Ok(self.lost(&context));
        };
        if let Some(plan) = plan.filter(|plan| plan.kind == CrashKind::OutcomeLost) {
            self.crashed(plan, &attempt);
            self.note(format_args!(", and its outcome was lost"));
            discard(result);
            return Ok(self.lost(&context));
        }
        Ok(self.ended(&context, result))
    }

    fn context(&self, envelope: Arc<Envelope>) -> Context {
        // By tokio's clock, which a test may have paused and which controls its timers.
        let now = tokio::time::Instant::now();
        let end = AttemptEnd {
            at: now + envelope.options.timeout.min(LONGEST),
            is_deadline: false,
        };
        let mut context = Context::new(
            envelope,
            worker(self.tried.len()).into(),
            self.clock.now(),
            None,
            end,
            Arc::clone(&self.provided),
            Weak::new(),
        );
        // Each attempt is on a separate server, whose limits have room for it.
        context.set_passed(self.subject.service.gates());
        context
    }

    /// What happens next to a task whose worker was lost.
    fn lost(&self, context: &Context) -> Settlement {
        self.clock.advance(UNTIL_RECLAIMED);
        lease_expired(&self.leased_as(context))
    }

    /// What happens next after an attempt that has returned.
    fn ended(&self, context: &Context, result: Result<TaskOutput, TaskError>) -> Settlement {
        match result {
            Ok(output) => {
                let result = output.result;
                self.leased_as(context).settle(Outcome::Complete { result })
            }
            Err(error) => {
                let (counts, now) = (counts(context, &error), self.clock.now());
                let settlement = after_error(context, self.token(), &error, counts, now);
                discard(error);
                settlement
            }
        }
    }

    fn leased_as(&self, context: &Context) -> Leased {
        let envelope = Arc::clone(context.envelope());
        Leased::new(envelope, self.token(), self.clock.now())
    }

    fn token(&self) -> LeaseToken {
        self.leased.token
    }

    /// Records the outcome.
    async fn settle(&self, settlement: Settlement) -> Result<Ending, CrashError> {
        let settlement = Settlement {
            leased: Arc::clone(self.leased.original()),
            only_if_expired: false,
            ..settlement
        };
        all_of(self.broker.settle(std::slice::from_ref(&settlement)).await)?;
        Ok(match settlement.outcome {
            Outcome::Complete { result } => {
                let codec = &settlement.envelope.codec;
                Ending::Completed(result.map(|result| (self.subject.show)(codec, &result)))
            }
            Outcome::Drop => Ending::Dropped,
            _ => {
                let failure = settlement.envelope.last_failure();
                Ending::Archived(failure.map_or_else(String::new, |last| last.message.clone()))
            }
        })
    }

    /// Runs a paused attempt to its end. Its outcome is refused, because its lease was lost.
    async fn resume(&mut self, nth: usize, mut attempt: Attempt) -> Result<(), CrashError> {
        let too_many = self.subject.max_awaits.saturating_add(1);
        let result = attempt.run_to(too_many).await;
        let Some(result) = result else {
            return Err(self.never_returned(attempt.awaits()));
        };
        let end = &mut self.tried[nth].end;
        *end = format!("{end}, later resumed and {}", describe(&result));
        discard(result);
        Ok(())
    }

    fn crashed(&mut self, plan: Plan, attempt: &Attempt) {
        let is_lost = plan.kind == CrashKind::OutcomeLost;
        self.crash = self.tried.last().map(|tried| Crash {
            kind: plan.kind,
            attempt: tried.attempt,
            at: tried.awaits,
            of: plan.of.max(tried.awaits),
            place: attempt.place().filter(|_| !is_lost),
        });
    }

    /// Adds a note on how the attempt ended.
    fn note(&mut self, note: std::fmt::Arguments<'_>) {
        if let Some(tried) = self.tried.last_mut() {
            tried.end = format!("{}{note}", tried.end);
        }
    }

    fn never_returned(&self, awaits: usize) -> CrashError {
        let found = format!("an attempt waited {awaits} times");
        self.endless(found, self.subject.max_awaits)
    }

    fn endless(&self, found: String, limit: usize) -> CrashError {
        CrashError::Endless {
            event: self.leased.envelope.event.clone(),
            found,
            limit,
            crash: self.crash,
        }
    }

    pub(super) fn state(&self) -> &ServerState {
        &self.provided.state
    }

    /// Each attempt, and how it ended.
    pub(super) fn attempts(&self) -> Vec<String> {
        let line = |tried: &Tried| format!("{} {}", tried.attempt, tried.end);
        self.tried.iter().map(line).collect()
    }

    /// The tasks that were enqueued.
    pub(super) async fn enqueued(&self) -> Result<Vec<String>, BrokerError> {
        enqueued(&self.broker, &self.leased.envelope, self.subject.show).await
    }
}

fn worker(nth: usize) -> String {
    format!("worker-{}", nth + 1)
}

fn describe(result: &Result<TaskOutput, TaskError>) -> String {
    match result {
        Ok(_) => "completed".into(),
        Err(error) => format!("failed: {}", error.message()),
    }
}
