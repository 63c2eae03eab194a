//! Outcomes on their way to the broker: those of a queue that fails wait apart, so that they hold up no other's.

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

/// The most outcomes to record in one call.
const MAX_BATCH: usize = 1_000;

/// Outcomes that are to be recorded.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Those that have just come.
    settlements: Mutex<Vec<Settlement>>,
    ways: Mutex<Ways>,
    filled: Notify,
    /// How many are here, those of calls under way among them.
    unrecorded: AtomicUsize,
    /// How many of them wait for queues that fail.
    apart: AtomicUsize,
    recorded: Notify,
}

/// The ways that outcomes go, each with one call under way at a time.
#[derive(Debug, Default)]
struct Ways {
    /// That of all queues which do not have one of their own.
    common: Way,
    /// Those of queues that fail, or that are kept apart.
    own: HashMap<Name, Way>,
}

#[derive(Debug)]
struct Way {
    /// What was sent and failed, the next one last. It is sent again as it was: the broker knows it by that.
    again: Vec<Part>,
    waiting: Vec<Settlement>,
    under_way: Option<Arc<Part>>,
    retrying: Retrying,
    /// When to try again.
    next: Option<Instant>,
}

/// Outcomes that are recorded with one call.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) settlements: Vec<Settlement>,
    /// Why the broker refuses the one outcome of this part: its task is archived instead.
    pub(super) refused: Option<BrokerError>,
}

/// Outcomes of one queue that were not recorded, for the same reason.
pub(super) struct Failed {
    pub(super) part: Part,
    pub(super) error: BrokerError,
}

impl Default for Way {
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

impl Way {
    /// What to send now.
    fn begin(&mut self, now: Instant) -> Option<Arc<Part>> {
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

    /// Keeps a part that was not recorded, to send it again after a while.
    fn put_off(&mut self, part: Part, wait: std::time::Duration) {
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

    /// Waits until outcomes have come.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// How many outcomes are not recorded yet, without those of queues that fail.
    pub(super) fn unrecorded(&self) -> usize {
        let apart = self.apart.load(SeqCst);
        self.unrecorded.load(SeqCst).saturating_sub(apart)
    }

    /// Waits until at most `max` outcomes are not recorded, or some are.
    pub(super) async fn unrecorded_at_most(&self, max: usize) {
        while self.unrecorded() > max {
            self.recorded.notified().await;
        }
    }

    /// The queues whose outcomes cannot be recorded: a broker that gives their tasks and takes no outcomes must not be emptied.
    pub(super) fn failing(&self) -> HashSet<Name> {
        if self.apart.load(SeqCst) == 0 {
            return HashSet::new();
        }
        let ways = self.ways.lock();
        let failing = ways.own.iter().filter(|(_, way)| way.retrying.fails());
        failing.map(|(queue, _)| queue.clone()).collect()
    }

    /// The leases of what is not recorded yet.
    pub(super) fn leases(&self) -> Vec<Lease> {
        let lease = |settlement: &Settlement| Lease {
            task: settlement.envelope.task_ref(),
            token: settlement.token,
        };
        // Both at once: what is on its way from one to the other is in one of them.
        let ways = self.ways.lock();
        let mut leases: Vec<_> = self.settlements.lock().iter().map(lease).collect();
        let sorted = ways.own.values().chain([&ways.common]);
        leases.extend(sorted.flat_map(Way::all).map(lease));
        leases
    }

    pub(super) fn take(&self) -> Vec<Settlement> {
        let mut settlements = self.settlements.lock();
        let capacity = settlements.len();
        std::mem::replace(&mut settlements, Vec::with_capacity(capacity))
    }

    /// Sorts what has come, and begins to send what can be sent: each with its queue, where that has a way of its own. Each queue has
    /// where `apart`.
    pub(super) fn begin(&self, apart: bool) -> Vec<(Option<Name>, Arc<Part>)> {
        let mut ways = self.ways.lock();
        let Ways { common, own } = &mut *ways;
        let new = self.take();
        if !apart && own.is_empty() && common.waiting.is_empty() {
            common.waiting = new;
        } else {
            for settlement in new {
                let queue = &settlement.envelope.queue;
                match own.get_mut(queue) {
                    Some(way) => way.waiting.push(settlement),
                    None if apart => {
                        let way = own.entry(queue.clone()).or_default();
                        way.waiting.push(settlement);
                    }
                    None => common.waiting.push(settlement),
                }
            }
        }
        let now = Instant::now();
        let mut begun = Vec::new();
        begun.extend(common.begin(now).map(|part| (None, part)));
        for (queue, way) in own.iter_mut() {
            begun.extend(way.begin(now).map(|part| (Some(queue.clone()), part)));
        }
        self.count_apart(&ways);
        begun
    }

    /// When the next part is to be sent again.
    pub(super) fn next(&self) -> Option<Instant> {
        let ways = self.ways.lock();
        let all = ways.own.values().chain([&ways.common]);
        let idle = all.filter(|way| way.under_way.is_none());
        idle.filter_map(|way| way.next).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unrecorded.load(SeqCst) == 0
    }

    /// Notes that the call for a part has come back, and what of it is to be sent again.
    pub(super) fn came_back(&self, of: Option<&Name>, part: &Arc<Part>, failed: Vec<Failed>) {
        let mut ways = self.ways.lock();
        let is_same = |way: &Way| {
            let under_way = way.under_way.as_ref();
            under_way.is_some_and(|sent| Arc::ptr_eq(sent, part))
        };
        let way = match of {
            Some(queue) => ways.own.entry(queue.clone()).or_default(),
            None => &mut ways.common,
        };
        if is_same(way) {
            way.under_way = None;
        }
        way.next = None;
        let mut left = 0;
        if failed.is_empty() {
            match of {
                Some(queue) => way.retrying.worked_for(queue),
                None => way.retrying.worked(),
            }
        }
        for failed in failed {
            left += failed.part.settlements.len();
            ways.keep(failed);
        }
        // Where nothing fails any more, the common way is the shorter one.
        if let Some(queue) = of
            && ways.own.get(queue).is_some_and(Way::is_done)
        {
            ways.own.remove(queue);
        }
        self.count_apart(&ways);
        drop(ways);
        self.unrecorded
            .fetch_sub(part.settlements.len() - left, SeqCst);
        self.recorded.notify_one();
    }

    /// Notes that all queues have failed alike: the part goes the common way again, after a while.
    pub(super) fn all_failed(&self, part: &Arc<Part>, error: &BrokerError) {
        let mut ways = self.ways.lock();
        let way = &mut ways.common;
        way.under_way = None;
        let wait = way.retrying.failed(error);
        way.put_off(Part::clone(part), wait);
    }

    fn count_apart(&self, ways: &Ways) {
        let failing = ways.own.values().filter(|way| way.retrying.fails());
        let apart = failing.map(|way| way.all().count()).sum();
        self.apart.store(apart, SeqCst);
    }
}

impl Ways {
    /// Keeps what failed of one queue on a way of its own: what the broker does not take for now as it was, and what it
    /// refuses in halves, until the culprit is alone.
    fn keep(&mut self, failed: Failed) {
        let Failed { mut part, error } = failed;
        let Some(first) = part.settlements.first() else {
            return;
        };
        let queue = first.envelope.queue.clone();
        let way = self.own.entry(queue.clone()).or_default();
        if error.is_temporary() {
            let wait = way.retrying.failed_for(&queue, &error);
            way.put_off(part, wait);
        } else if part.settlements.len() > 1 {
            tracing::debug!(%queue, %error, tasks = part.settlements.len(), "outcomes were refused together; recorded in halves");
            let second = part.settlements.split_off(part.settlements.len() / 2);
            way.again.push(Part {
                settlements: second,
                refused: None,
            });
            way.again.push(part);
        } else {
            part.refused = Some(error);
            way.again.push(part);
        }
    }
}
