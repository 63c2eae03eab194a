//! Calls for leases that are under way, and the queues that are left alone since they fail.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::Instant;

use super::{
    Shared,
    queues::{QueueSet, Share},
    retrying::{Retrying, log_failed},
};
use crate::{
    broker::{BrokerError, Each, LeaseRequest, Leased},
    task::Name,
};

const DOING: &str = "lease";

/// How long the room for what a call may bring is kept free. One that takes longer may be for a queue that is away, and must not
/// keep slots from others; should it bring tasks all the same, they wait for a slot.
const PATIENCE: Duration = Duration::from_millis(100);

/// What came back of a call.
pub(super) struct Answered {
    /// What was asked for.
    pub(super) shares: Vec<Share>,
    /// How many tasks at most in all.
    pub(super) max: usize,
    /// When it was asked for.
    pub(super) asked: Instant,
    /// One answer for each of the shares, unless the whole call failed.
    pub(super) answers: Result<Each<Vec<Leased>>, BrokerError>,
}

/// The calls of a server.
pub(super) struct Calls {
    under_way: FuturesUnordered<BoxFuture<'static, (u64, Answered)>>,
    /// Until when room is kept for each call, and how much.
    reserved: Vec<(u64, Instant, usize)>,
    made: u64,
    queues: Vec<State>,
}

/// Where the calls are with one queue.
struct State {
    asked: bool,
    retrying: Retrying,
    /// When one that fails is tried again.
    next: Instant,
}

impl Calls {
    pub(super) fn new(queues: usize) -> Self {
        let state = || State {
            asked: false,
            retrying: Retrying::new(DOING),
            next: Instant::now(),
        };
        Self {
            under_way: FuturesUnordered::new(),
            reserved: Vec::new(),
            made: 0,
            queues: std::iter::repeat_with(state).take(queues).collect(),
        }
    }

    /// How many tasks calls may bring that room is kept for.
    pub(super) fn reserved(&mut self, now: Instant) -> usize {
        self.reserved.retain(|(_, until, _)| *until > now);
        self.reserved.iter().map(|(_, _, max)| max).sum()
    }

    /// Opens the queues that may be asked together, and closes the others: those that are asked, that fail, or whose outcomes cannot
    /// be recorded.
    pub(super) fn open(&self, queues: &mut QueueSet, failing: &HashSet<Name>) {
        for (place, state) in self.queues.iter().enumerate() {
            let is_open = !state.asked && !state.retrying.fails();
            let takes = failing.is_empty() || !failing.contains(queues.name(place));
            queues.set_open(place, is_open && takes);
        }
    }

    /// Whether the answer to a call is to be waited for before more is asked: the weights of the queues that it is for count.
    pub(super) fn are_due(&self, now: Instant) -> bool {
        self.reserved.iter().any(|(_, until, _)| *until > now)
    }

    /// Whether a call for a queue is under way.
    pub(super) fn is_asked(&self, queue: usize) -> bool {
        self.queues[queue].asked
    }

    /// The queues that fail, and are to be tried again now.
    pub(super) fn to_try(&self, now: Instant) -> Vec<usize> {
        let is_to_try = |state: &State| state.retrying.fails() && !state.asked && state.next <= now;
        let numbered = self.queues.iter().enumerate();
        let to_try = numbered.filter(|(_, state)| is_to_try(state));
        to_try.map(|(place, _)| place).collect()
    }

    /// Waits until a queue that fails is to be tried again, or room is no longer kept for a call.
    pub(super) fn next(&self, now: Instant) -> impl Future<Output = ()> + use<> {
        let waiting = self.queues.iter();
        let waiting = waiting.filter(|state| state.retrying.fails() && !state.asked);
        let tries = waiting.map(|state| state.next).filter(|next| *next > now);
        let kept = self.reserved.iter().map(|(_, until, _)| *until);
        let next = tries.chain(kept).min();
        async move {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Asks for shares: with one call, or one for each queue where they are kept `apart`.
    pub(super) fn ask(
        &mut self,
        shared: &Shared,
        queues: &mut QueueSet,
        shares: Vec<Share>,
        max: usize,
    ) {
        if shared.broker.capabilities().is_partitioned {
            // With strict priority, the next one is asked once it is known what the first one leaves.
            let at_once = if queues.share_turns() {
                shares.len()
            } else {
                1
            };
            for share in shares.into_iter().take(at_once) {
                let max = share.max;
                self.ask_once(shared, queues, vec![share], max, max);
            }
        } else {
            let in_all = shares.iter().map(|share| share.max);
            let in_all = in_all.fold(0, usize::saturating_add).min(max);
            self.ask_once(shared, queues, shares, max, in_all);
        }
    }

    /// Asks a queue that fails for one task, by itself, so that no other waits for its answer.
    pub(super) fn try_again(&mut self, shared: &Shared, queues: &mut QueueSet, queue: usize) {
        self.ask_once(shared, queues, vec![Share { queue, max: 1 }], 1, 0);
    }

    fn ask_once(
        &mut self,
        shared: &Shared,
        queues: &mut QueueSet,
        shares: Vec<Share>,
        max: usize,
        reserved: usize,
    ) {
        for share in &shares {
            self.queues[share.queue].asked = true;
            // What is signalled from now on counts.
            queues.set_ready(share.queue, false);
        }
        let named = |share: &Share| (queues.name(share.queue).clone(), share.max);
        let request = LeaseRequest {
            queues: shares.iter().map(named).collect(),
            max,
            lease: shared.settings.lease,
            worker: shared.worker.clone(),
        };
        self.made += 1;
        let call = self.made;
        if reserved > 0 {
            let until = Instant::now() + PATIENCE;
            self.reserved.push((call, until, reserved));
        }
        let broker = Arc::clone(&shared.broker);
        let asking = async move {
            let asked = Instant::now();
            let answers = broker.lease(&request).await;
            let answered = Answered {
                shares,
                max,
                asked,
                answers,
            };
            (call, answered)
        };
        self.under_way.push(asking.boxed());
    }

    /// The next call that comes back; `None` if none is under way.
    pub(super) async fn answered(&mut self) -> Option<Answered> {
        let (call, answered) = self.under_way.next().await?;
        self.reserved.retain(|(of, ..)| *of != call);
        for share in &answered.shares {
            self.queues[share.queue].asked = false;
        }
        Some(answered)
    }

    /// Notes that a queue has answered.
    pub(super) fn worked(&mut self, queues: &QueueSet, queue: usize) {
        self.queues[queue].retrying.worked_for(queues.name(queue));
    }

    /// Notes that queues have failed, each with its error.
    pub(super) fn failed(&mut self, queues: &mut QueueSet, failed: Vec<(usize, BrokerError)>) {
        let (now, mut new) = (Instant::now(), Vec::new());
        let mut last = None;
        for (queue, error) in failed {
            let state = &mut self.queues[queue];
            if !state.retrying.fails() {
                new.push(queues.name(queue).clone());
                last = Some(error);
            }
            state.next = now + state.retrying.wait();
            queues.set_ready(queue, true);
        }
        if let Some(error) = last {
            log_failed(DOING, &new, &error);
        }
    }
}
