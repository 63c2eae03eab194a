//! The lease calls under way, and the queues that fail and wait for a retry.

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

/// How long room is reserved for the tasks of a call. A slower call may be for an unreachable queue, and must not keep
/// slots from other queues. If it returns tasks after all, they wait for a slot.
const PATIENCE: Duration = Duration::from_millis(100);

/// The response to a call.
pub(super) struct Response {
    /// What was requested.
    pub(super) shares: Vec<Share>,
    /// The maximum number of tasks in total.
    pub(super) max: usize,
    /// When the call was made.
    pub(super) called: Instant,
    /// One result per share, unless the call failed.
    pub(super) results: Result<Each<Vec<Leased>>, BrokerError>,
}

/// The lease calls of a server.
pub(super) struct Calls {
    under_way: FuturesUnordered<BoxFuture<'static, (u64, Response)>>,
    /// The room reserved for each call, and until when.
    reserved: Vec<(u64, Instant, usize)>,
    made: u64,
    queues: Vec<State>,
}

/// The state of one queue.
struct State {
    calling: bool,
    retrying: Retrying,
    /// When a failing queue is retried.
    next: Instant,
}

impl Calls {
    pub(super) fn new(queues: usize) -> Self {
        let state = || State {
            calling: false,
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

    /// How much room is reserved for the calls under way.
    pub(super) fn reserved(&mut self, now: Instant) -> usize {
        self.reserved.retain(|(_, until, _)| *until > now);
        self.reserved.iter().map(|(_, _, max)| max).sum()
    }

    /// Opens the queues that may share a call, and closes the others: queues with a call under way, failing ones, and
    /// queues whose outcomes cannot be recorded.
    pub(super) fn open(&self, queues: &mut QueueSet, failing: &HashSet<Name>) {
        for (place, state) in self.queues.iter().enumerate() {
            let is_open = !state.calling && !state.retrying.fails();
            let takes = failing.is_empty() || !failing.contains(queues.name(place));
            queues.set_open(place, is_open && takes);
        }
    }

    /// Whether to wait for a response before the next call. Otherwise the weights of its queues would not count.
    pub(super) fn are_due(&self, now: Instant) -> bool {
        self.reserved.iter().any(|(_, until, _)| *until > now)
    }

    /// Whether a call for a queue is under way.
    pub(super) fn is_calling(&self, queue: usize) -> bool {
        self.queues[queue].calling
    }

    /// The failing queues that are due for a retry.
    pub(super) fn to_try(&self, now: Instant) -> Vec<usize> {
        let is_to_try =
            |state: &State| state.retrying.fails() && !state.calling && state.next <= now;
        let numbered = self.queues.iter().enumerate();
        let to_try = numbered.filter(|(_, state)| is_to_try(state));
        to_try.map(|(place, _)| place).collect()
    }

    /// Waits until a failing queue is due for a retry, or a reservation ends.
    pub(super) fn next(&self, now: Instant) -> impl Future<Output = ()> + use<> {
        let waiting = self.queues.iter();
        let waiting = waiting.filter(|state| state.retrying.fails() && !state.calling);
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

    /// Leases shares with one call, or with one per queue if the broker is partitioned.
    pub(super) fn lease(
        &mut self,
        shared: &Shared,
        queues: &mut QueueSet,
        shares: Vec<Share>,
        max: usize,
    ) {
        if shared.broker.capabilities().is_partitioned {
            // With strict priority, the next queue is called when it is known how much room the first one leaves.
            let together = if queues.share_turns() {
                shares.len()
            } else {
                1
            };
            for share in shares.into_iter().take(together) {
                let max = share.max;
                self.call(shared, queues, vec![share], max, max);
            }
        } else {
            let in_all = shares.iter().map(|share| share.max);
            let in_all = in_all.fold(0, usize::saturating_add).min(max);
            self.call(shared, queues, shares, max, in_all);
        }
    }

    /// Leases one task from a failing queue in a separate call, so that no other queue waits for it.
    pub(super) fn try_again(&mut self, shared: &Shared, queues: &mut QueueSet, queue: usize) {
        self.call(shared, queues, vec![Share { queue, max: 1 }], 1, 0);
    }

    fn call(
        &mut self,
        shared: &Shared,
        queues: &mut QueueSet,
        shares: Vec<Share>,
        max: usize,
        reserved: usize,
    ) {
        for share in &shares {
            self.queues[share.queue].calling = true;
            // Signals count from now on.
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
        let calling = async move {
            let called = Instant::now();
            let results = broker.lease(&request).await;
            let response = Response {
                shares,
                max,
                called,
                results,
            };
            (call, response)
        };
        self.under_way.push(calling.boxed());
    }

    /// Waits for the next response. Returns `None` if no call is under way.
    pub(super) async fn next_response(&mut self) -> Option<Response> {
        let (call, response) = self.under_way.next().await?;
        self.reserved.retain(|(of, ..)| *of != call);
        for share in &response.shares {
            self.queues[share.queue].calling = false;
        }
        Some(response)
    }

    /// Records that a queue has responded.
    pub(super) fn worked(&mut self, queues: &QueueSet, queue: usize) {
        self.queues[queue].retrying.worked_for(queues.name(queue));
    }

    /// Records that queues have failed, each with its error.
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
