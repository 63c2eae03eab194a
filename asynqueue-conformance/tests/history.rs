//! Histories of the in-memory store have an order; those of broken stores have none.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use asynqueue_conformance::history::{self, Answer, Plan, Request, Subject};
use asynqueue_core::{
    broker::{BrokerError, LeaseToken, Settled, TaskInfo},
    memory::MemoryBroker,
    task::{Name, TaskRef},
};
use parking_lot::Mutex;

/// A flaw of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// An outcome counts under any token.
    SettlesUnderAnyToken,
    /// Sometimes the tasks of the previous lease are leased again.
    LeasesTwice,
    /// A task with a duplicate id is reported as accepted.
    AcceptsTakenIds,
    /// Sometimes an outcome is reported as recorded, but is not.
    LosesOutcomes,
    /// A lookup returns the first result for that task.
    AnswersLate,
    /// Sometimes a failed call is executed many calls later, and again after that.
    RepeatsFailed,
}

/// An in-memory store with a flaw. Its callers take turns at each call.
struct Flawed {
    store: MemoryBroker,
    flaw: Flaw,
    calls: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tokens: HashMap<TaskRef, LeaseToken>,
    leased: Option<Answer>,
    looked: HashMap<TaskRef, Option<TaskInfo>>,
    failed: Vec<(Name, Request)>,
}

impl Flawed {
    fn new(flaw: Flaw) -> Self {
        Self {
            store: MemoryBroker::new(),
            flaw,
            calls: AtomicUsize::new(0),
            state: Mutex::default(),
        }
    }

    /// Whether the flaw shows in this call: in one of `every`.
    fn shows(&self, flaw: Flaw, every: usize) -> bool {
        self.flaw == flaw && self.calls.fetch_add(1, SeqCst) % every == every - 1
    }

    async fn answer(&self, worker: &Name, request: &Request) -> Result<Answer, BrokerError> {
        let mut request = request.clone();
        match &mut request {
            Request::Settle(settlements) if self.flaw == Flaw::SettlesUnderAnyToken => {
                let state = self.state.lock();
                for settlement in settlements {
                    let token = state.tokens.get(&settlement.envelope.task_ref());
                    settlement.token = token.copied().unwrap_or(settlement.token);
                }
            }
            Request::Settle(settlements) if self.shows(Flaw::LosesOutcomes, 7) => {
                let recorded = settlements.iter().map(|_| Ok(Settled::Recorded));
                return Ok(Answer::Settled(recorded.collect()));
            }
            Request::Lease { queues, .. } if self.shows(Flaw::LeasesTwice, 7) => {
                let before = self.state.lock().leased.clone();
                if let Some(Answer::Leased(before)) = before
                    && before.len() == queues.len()
                {
                    return Ok(Answer::Leased(before));
                }
            }
            _ => {}
        }
        if self.shows(Flaw::RepeatsFailed, 20) {
            let failed = (worker.clone(), request);
            self.state.lock().failed.push(failed);
            return Err(BrokerError::unavailable("for this call"));
        }
        let mut answer = self.store.perform(worker, &request).await?;
        self.note(&request, &mut answer).await;
        Ok(answer)
    }

    async fn note(&self, request: &Request, answer: &mut Answer) {
        let repeated = {
            let mut state = self.state.lock();
            match (request, &mut *answer) {
                (Request::Lease { .. }, Answer::Leased(queues)) => {
                    for leased in queues.iter().flatten().flatten() {
                        state
                            .tokens
                            .insert(leased.envelope.task_ref(), leased.token);
                    }
                    state.leased = Some(answer.clone());
                }
                (Request::Look(tasks), Answer::Looked(answers))
                    if self.flaw == Flaw::AnswersLate =>
                {
                    for (task, answer) in tasks.iter().zip(answers) {
                        let first = state.looked.entry(task.clone());
                        *answer = first.or_insert_with(|| answer.clone()).clone();
                    }
                }
                (Request::Enqueue(_), Answer::Enqueued(answers))
                    if self.flaw == Flaw::AcceptsTakenIds =>
                {
                    answers.iter_mut().for_each(|answer| *answer = Ok(()));
                }
                _ => {}
            }
            (state.failed.len() > 1).then(|| state.failed.remove(0))
        };
        if let Some((worker, request)) = repeated {
            // It takes effect late, which is allowed, and twice, which is not.
            for _ in 0..2 {
                let _ = self.store.perform(&worker, &request).await;
            }
        }
    }
}

#[async_trait::async_trait]
impl Subject for Flawed {
    async fn perform(&self, worker: &Name, request: &Request) -> Result<Answer, BrokerError> {
        tokio::task::yield_now().await;
        let answer = self.answer(worker, request).await;
        tokio::task::yield_now().await;
        answer
    }
}

/// The first of this many histories, each of this many calls, that has no order.
async fn first_violation(flaw: Flaw, histories: u64, operations: usize) -> Option<String> {
    for seed in 0..histories {
        let store = Arc::new(Flawed::new(flaw));
        let mut plan = Plan::new(seed);
        plan.operations = operations;
        let judged = history::check_store(&[store], &plan, &()).await;
        match judged {
            // Proving that there is no order can take too long. The next history is another chance.
            Err(violation) if !violation.is_undecided() => return Some(violation.to_string()),
            judged if flaw == Flaw::None => drop(judged.expect("an order")),
            _ => {}
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_calls_of_the_in_memory_store_have_an_order() {
    assert_eq!(first_violation(Flaw::None, 50, 200).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_flaw_of_a_store_is_detected_by_short_histories() {
    use Flaw::*;

    for flaw in [
        SettlesUnderAnyToken,
        LeasesTwice,
        AcceptsTakenIds,
        LosesOutcomes,
        AnswersLate,
        RepeatsFailed,
    ] {
        // Most take a few histories. Whether a flaw shows depends on how the calls overlap.
        let found = first_violation(flaw, 500, 40).await;
        let text = found.unwrap_or_else(|| panic!("{flaw:?} was not detected"));
        assert!(
            text.contains("no order of the calls explains these"),
            "{text}"
        );
    }
}
