//! Runs clients on a store, records their calls and checks them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    History, Promises, Summary, Violation,
    call::{Answer, Client, Request},
    recorder::Recorder,
    script::{self, Known},
    subject::Subject,
};
use crate::property::QUEUES;

/// The parameters of a history.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// Determines the requests of each client, but not their interleaving, which depends on the machine.
    pub seed: u64,
    /// How many clients call concurrently. Default 6.
    pub clients: usize,
    /// How many calls they make in total. Default 200. Some 30 more follow, which show the final state.
    pub operations: usize,
    /// One call in ten is dropped after less than this. Default: none.
    pub cut_off: Option<Duration>,
    /// What the store guarantees.
    pub promises: Promises,
}

impl Plan {
    /// A history of 200 calls by six clients.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            clients: 6,
            operations: 200,
            cut_off: None,
            promises: Promises::default(),
        }
    }

    /// Cuts off one call in ten, after less than this.
    #[must_use]
    pub fn cut_off(mut self, within: Duration) -> Self {
        self.cut_off = Some(within);
        self
    }

    /// Requires no more than these guarantees.
    #[must_use]
    pub fn promises(mut self, promises: Promises) -> Self {
        self.promises = promises;
        self
    }
}

/// The faults between clients and their store.
#[async_trait]
pub trait Faults: Send + Sync {
    /// Injects faults, until it is dropped.
    async fn strike(&self, seed: u64);

    /// Ends all faults, before the final state is read.
    fn heal(&self);
}

/// No faults.
#[async_trait]
impl Faults for () {
    async fn strike(&self, _: u64) {
        std::future::pending().await
    }

    fn heal(&self) {}
}

/// Runs clients on an empty store, and checks their history. Each handle of the store represents a process. Clients
/// share them in turn.
///
/// # Errors
///
/// When the history has [no order](History::judge).
///
/// # Panics
///
/// When there is no handle, or when a client panics, for example in the store.
pub async fn check_store<S: Subject + ?Sized>(
    handles: &[Arc<S>],
    plan: &Plan,
    faults: &dyn Faults,
) -> Result<Summary, Violation> {
    let history = record(handles, plan, faults).await;
    let promises = plan.promises;
    // It takes a while, in which other tasks of the runtime continue.
    let judged = tokio::task::spawn_blocking(move || history.judge(&promises)).await;
    judged.expect("the judge does not panic")
}

/// Runs clients on an empty store. See [`check_store`].
///
/// # Panics
///
/// As [`check_store`].
pub async fn record<S: Subject + ?Sized>(
    handles: &[Arc<S>],
    plan: &Plan,
    faults: &dyn Faults,
) -> History {
    let stage = Arc::new(Stage {
        recorder: Recorder::new(),
        known: Known::default(),
        left: AtomicUsize::new(plan.operations),
    });
    let clients = (0..plan.clients).map(|number| {
        let process = number % handles.len();
        let client = Client { number, process };
        let (stage, handle, plan) = (Arc::clone(&stage), Arc::clone(&handles[process]), *plan);
        tokio::spawn(async move { stage.play(client, &*handle, &plan).await })
    });
    let clients = futures_util::future::join_all(clients);
    tokio::select! {
        () = faults.strike(plan.seed) => unreachable!("faults run until they are dropped"),
        ended = clients => ended.into_iter().for_each(|ended| ended.expect("no client panics")),
    }
    faults.heal();
    stage.look_at_rest(plan.clients, &*handles[0]).await;
    stage.recorder.history()
}

/// State that clients share.
struct Stage {
    recorder: Recorder,
    known: Known,
    /// How many calls are left to make.
    left: AtomicUsize,
}

impl Stage {
    /// Makes calls until all clients together have made enough.
    async fn play<S: Subject + ?Sized>(&self, client: Client, subject: &S, plan: &Plan) {
        let number = client.number as u64;
        let mut random = StdRng::seed_from_u64(plan.seed.wrapping_mul(1_000).wrapping_add(number));
        let mut again = None;
        let take = |left: usize| left.checked_sub(1);
        while self.left.fetch_update(SeqCst, SeqCst, take).is_ok() {
            let request = again
                .take()
                .unwrap_or_else(|| script::request(&self.known, &mut random));
            let call = self.recorder.call(client, subject, request.clone());
            let answer = match plan.cut_off.filter(|_| random.random_bool(0.1)) {
                Some(within) => {
                    let within = within.mul_f64(random.random());
                    tokio::time::timeout(within, call).await.unwrap_or(None)
                }
                None => call.await,
            };
            if let Some(answer) = &answer {
                self.known.note(answer);
            }
            again = unsettled(request, answer.as_ref()).filter(|_| random.random_bool(0.8));
        }
    }

    /// Leases what is left and looks up every task, so that effects of unknown outcome show.
    async fn look_at_rest<S: Subject + ?Sized>(&self, number: usize, subject: &S) {
        let client = Client { number, process: 0 };
        for queue in QUEUES {
            // More than there are ids, in case each lease returns one task.
            for _ in 0..20 {
                let request = script::lease_of(queue, 3);
                let answer = self.recorder.call(client, subject, request).await;
                if let Some(Answer::Leased(answers)) = answer
                    && answers[0].as_ref().is_ok_and(Vec::is_empty)
                {
                    break;
                }
            }
        }
        let look = Request::Look(script::all_tasks());
        self.recorder.call(client, subject, look).await;
    }
}

/// What a client settles again, as a server does: everything in a queue that failed, in the same order.
fn unsettled(request: Request, answer: Option<&Answer>) -> Option<Request> {
    let Request::Settle(settlements) = request else {
        return None;
    };
    let has_failed = |place: usize| match answer {
        Some(Answer::Settled(answers)) => answers[place].is_err(),
        _ => true,
    };
    let failed = settlements.into_iter().enumerate();
    let failed: Vec<_> = failed
        .filter(|(place, _)| has_failed(*place))
        .map(|(_, settlement)| settlement)
        .collect();
    (!failed.is_empty()).then_some(Request::Settle(failed))
}
