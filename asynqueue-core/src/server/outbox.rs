//! Outcomes on their way to the broker. Outcomes of a failing queue wait separately, so that they do not delay the
//! others.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::{sync::Notify, time::Instant};

use super::retrying::Retrying;
use crate::{
    broker::{BrokerError, Lease, Settlement},
    sync::Mutex,
    task::Name,
};

/// The maximum number of outcomes to record in one call.
const MAX_BATCH: usize = 1_000;

/// Outcomes waiting to be recorded.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Outcomes not yet sorted into lanes.
    settlements: Mutex<Vec<Settlement>>,
    lanes: Mutex<Lanes>,
    filled: Notify,
    /// How many outcomes are here, including those of calls under way.
    unrecorded: AtomicUsize,
    /// How many of them belong to failing queues.
    stuck: AtomicUsize,
    recorded: Notify,
}

/// Lanes in which outcomes are sent, each with at most one call under way.
#[derive(Debug, Default)]
struct Lanes {
    /// The lane of all queues that do not have their own.
    common: Lane,
    /// The lanes of failing queues, and of all queues of a partitioned broker.
    own: HashMap<Name, Lane>,
}

#[derive(Debug)]
struct Lane {
    /// Parts that failed, the next one last. Each is sent again unchanged, because the broker recognises it by its
    /// content.
    again: Vec<Part>,
    waiting: Vec<Settlement>,
    under_way: Option<Arc<Part>>,
    retrying: Retrying,
    /// When to retry.
    next: Option<Instant>,
}

/// Outcomes recorded with one call.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) settlements: Vec<Settlement>,
    /// Why the broker refused the only outcome of this part. Its task is archived instead.
    pub(super) refused: Option<BrokerError>,
}

/// Outcomes of one queue that were not recorded, for the same reason.
pub(super) struct Failed {
    pub(super) part: Part,
    pub(super) error: BrokerError,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            again: Vec::new(),
            waiting: Vec::new(),
            under_way: None,
            retrying: Retrying::new("settle"),
            next: None,
        }
    }
}

impl Lane {
    /// Takes the part to send now.
    fn next_part(&mut self, now: Instant) -> Option<Arc<Part>> {
        if self.under_way.is_some() || self.next.is_some_and(|next| next > now) {
            return None;
        }
        let part = match self.again.pop() {
            Some(part) => part,
            None if self.waiting.is_empty() => return None,
            None => Part {
                settlements: self.take_waiting(),
                refused: None,
            },
        };
        let part = Arc::new(part);
        self.under_way = Some(Arc::clone(&part));
        Some(part)
    }

    fn take_waiting(&mut self) -> Vec<Settlement> {
        if self.waiting.len() <= MAX_BATCH {
            return std::mem::take(&mut self.waiting);
        }
        let rest = self.waiting.split_off(MAX_BATCH);
        std::mem::replace(&mut self.waiting, rest)
    }

    fn all(&self) -> impl Iterator<Item = &Settlement> {
        let sent = self.again.iter().chain(self.under_way.as_deref());
        let sent = sent.flat_map(|part| &part.settlements);
        sent.chain(&self.waiting)
    }

    fn is_done(&self) -> bool {
        self.again.is_empty() && self.waiting.is_empty() && self.under_way.is_none()
    }

    /// Keeps a part that was not recorded, to send it again after `wait`.
    fn retry_in(&mut self, part: Part, wait: std::time::Duration) {
        self.again.push(part);
        self.next = Some(Instant::now() + wait);
    }
}

impl Outbox {
    pub(super) fn push(&self, settlement: Settlement) {
        self.unrecorded.fetch_add(1, SeqCst);
        let was_empty = {
            let mut settlements = self.settlements.lock();
            settlements.push(settlement);
            settlements.len() == 1
        };
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Waits until there are new outcomes.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// How many outcomes are not recorded yet, without those of failing queues.
    pub(super) fn unrecorded(&self) -> usize {
        let stuck = self.stuck.load(SeqCst);
        self.unrecorded.load(SeqCst).saturating_sub(stuck)
    }

    /// Waits until at most `max` outcomes are unrecorded.
    pub(super) async fn unrecorded_at_most(&self, max: usize) {
        while self.unrecorded() > max {
            self.recorded.notified().await;
        }
    }

    /// The queues whose outcomes cannot be recorded. Nothing more is leased from them, so that they are not emptied.
    pub(super) fn failing(&self) -> HashSet<Name> {
        if self.stuck.load(SeqCst) == 0 {
            return HashSet::new();
        }
        let lanes = self.lanes.lock();
        let failing = lanes.own.iter().filter(|(_, lane)| lane.retrying.fails());
        failing.map(|(queue, _)| queue.clone()).collect()
    }

    /// The leases of the unrecorded outcomes.
    pub(super) fn leases(&self) -> Vec<Lease> {
        let lease = |settlement: &Settlement| Lease {
            task: settlement.envelope.task_ref(),
            token: settlement.token,
        };
        // Under both locks, so that no outcome is missed on its way from one to the other.
        let lanes = self.lanes.lock();
        let mut leases: Vec<_> = self.settlements.lock().iter().map(lease).collect();
        let sorted = lanes.own.values().chain([&lanes.common]);
        leases.extend(sorted.flat_map(Lane::all).map(lease));
        leases
    }

    pub(super) fn take(&self) -> Vec<Settlement> {
        let mut settlements = self.settlements.lock();
        let capacity = settlements.len();
        std::mem::replace(&mut settlements, Vec::with_capacity(capacity))
    }

    /// Sorts new outcomes into lanes, and returns the parts to send now, with the queue if the lane belongs to one. If
    /// `partitioned`, every queue has its own lane.
    pub(super) fn start_calls(&self, partitioned: bool) -> Vec<(Option<Name>, Arc<Part>)> {
        let mut lanes = self.lanes.lock();
        let Lanes { common, own } = &mut *lanes;
        let new = self.take();
        if !partitioned && own.is_empty() && common.waiting.is_empty() {
            common.waiting = new;
        } else {
            for settlement in new {
                let queue = &settlement.envelope.queue;
                match own.get_mut(queue) {
                    Some(lane) => lane.waiting.push(settlement),
                    None if partitioned => {
                        let lane = own.entry(queue.clone()).or_default();
                        lane.waiting.push(settlement);
                    }
                    None => common.waiting.push(settlement),
                }
            }
        }
        let now = Instant::now();
        let mut parts = Vec::new();
        parts.extend(common.next_part(now).map(|part| (None, part)));
        for (queue, lane) in own.iter_mut() {
            parts.extend(lane.next_part(now).map(|part| (Some(queue.clone()), part)));
        }
        self.count_stuck(&lanes);
        parts
    }

    /// When to send the next failed part again.
    pub(super) fn next(&self) -> Option<Instant> {
        let lanes = self.lanes.lock();
        let all = lanes.own.values().chain([&lanes.common]);
        let idle = all.filter(|lane| lane.under_way.is_none());
        idle.filter_map(|lane| lane.next).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unrecorded.load(SeqCst) == 0
    }

    /// Records the result of a call, and what of it has to be sent again.
    pub(super) fn call_ended(&self, of: Option<&Name>, part: &Arc<Part>, failed: Vec<Failed>) {
        let mut lanes = self.lanes.lock();
        let is_same = |lane: &Lane| {
            let under_way = lane.under_way.as_ref();
            under_way.is_some_and(|sent| Arc::ptr_eq(sent, part))
        };
        let lane = match of {
            Some(queue) => lanes.own.entry(queue.clone()).or_default(),
            None => &mut lanes.common,
        };
        if is_same(lane) {
            lane.under_way = None;
        }
        lane.next = None;
        let mut left = 0;
        if failed.is_empty() {
            match of {
                Some(queue) => lane.retrying.worked_for(queue),
                None => lane.retrying.worked(),
            }
        }
        for failed in failed {
            left += failed.part.settlements.len();
            lanes.keep(failed);
        }
        // The common lane batches better, so a lane that is done is closed.
        if let Some(queue) = of
            && lanes.own.get(queue).is_some_and(Lane::is_done)
        {
            lanes.own.remove(queue);
        }
        self.count_stuck(&lanes);
        drop(lanes);
        self.unrecorded
            .fetch_sub(part.settlements.len() - left, SeqCst);
        self.recorded.notify_one();
    }

    /// Records that a call failed for all queues alike. The part is sent again in the common lane after a wait.
    pub(super) fn all_failed(&self, part: &Arc<Part>, error: &BrokerError) {
        let mut lanes = self.lanes.lock();
        let lane = &mut lanes.common;
        lane.under_way = None;
        let wait = lane.retrying.failed(error);
        lane.retry_in(Part::clone(part), wait);
    }

    fn count_stuck(&self, lanes: &Lanes) {
        let failing = lanes.own.values().filter(|lane| lane.retrying.fails());
        let stuck = failing.map(|lane| lane.all().count()).sum();
        self.stuck.store(stuck, SeqCst);
    }
}

impl Lanes {
    /// Keeps failed outcomes in the lane of their queue. After a temporary error the part is sent again unchanged.
    /// Refused outcomes are split in halves until the failing one is alone.
    fn keep(&mut self, failed: Failed) {
        let Failed { mut part, error } = failed;
        let Some(first) = part.settlements.first() else {
            return;
        };
        let queue = first.envelope.queue.clone();
        let lane = self.own.entry(queue.clone()).or_default();
        if error.is_temporary() {
            let wait = lane.retrying.failed_for(&queue, &error);
            lane.retry_in(part, wait);
        } else if part.settlements.len() > 1 {
            tracing::debug!(%queue, %error, tasks = part.settlements.len(), "outcomes refused; sending them in halves");
            let second = part.settlements.split_off(part.settlements.len() / 2);
            lane.again.push(Part {
                settlements: second,
                refused: None,
            });
            lane.again.push(part);
        } else {
            part.refused = Some(error);
            lane.again.push(part);
        }
    }
}
