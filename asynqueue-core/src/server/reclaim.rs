//! Reclaiming the tasks of lost workers, even if clocks step.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};

use tokio::time::Instant;

use super::{
    Counters, Shared,
    outcome::{after_failure, guarded},
    rounds::Chore,
};
use crate::{
    broker::{BrokerError, Each, Lease, Leased, Settled, Settlement},
    metrics,
    process::TaskErrorKind,
    task::{Failure, FailureKind, Name, Timestamp},
};

/// The maximum number of tasks to reclaim in one round.
const MAX_BATCH: usize = 1_000;

/// The minimum batch per queue, however many queues there are.
const MIN_OF_QUEUE: usize = 20;

/// How often to look for expired leases; a sixth of the lease if that is shorter.
const INTERVAL: Duration = Duration::from_secs(2);

/// Reclaims the tasks of lost workers.
struct ReclaimLost {
    shared: Arc<Shared>,
    seen: Sightings,
    /// Queues that fail or have recently recovered. While a queue was unreachable, none of its leases could be
    /// extended.
    away: HashMap<Name, Away>,
}

/// When a queue recovered; `None` while it fails.
type Away = Option<Instant>;

impl Chore for ReclaimLost {
    type Output = usize;

    const DOING: &'static str = "reclaim lost tasks";

    fn call(
        &mut self,
        queues: Vec<Name>,
        fails: bool,
    ) -> BoxFuture<'static, Result<Each<usize>, BrokerError>> {
        let (now, apart) = (Instant::now(), self.seen.apart);
        let mut by = self.seen.read(now, self.shared.broker.now());
        self.away
            .retain(|_, back| back.is_none_or(|back| now.duration_since(back) < apart));
        if fails {
            // The call only checks whether the queue responds. Its leases count as lost later.
            by = Timestamp::default();
        }
        let is_back = |queue: &Name| !fails && self.away.contains_key(queue);
        let queues = queues.into_iter().map(|queue| (is_back(&queue), queue));
        let queues: Vec<_> = queues.collect();
        let shared = Arc::clone(&self.shared);
        async move { shared.reclaim_of(queues, by).await }.boxed()
    }

    fn act(&mut self, queue: &Name, reclaimed: usize) -> Duration {
        if let Some(back @ None) = self.away.get_mut(queue) {
            *back = Some(Instant::now());
        }
        if reclaimed >= self.shared.most_to_reclaim() {
            Duration::ZERO
        } else {
            self.shared.reclaim_interval()
        }
    }

    fn failed(&mut self, queue: &Name) {
        self.away.insert(queue.clone(), None);
    }
}

impl Shared {
    /// Reclaims the tasks of lost workers.
    pub(super) async fn reclaim_lost(self: Arc<Self>) {
        let chore = ReclaimLost {
            seen: Sightings::new(self.settings.lease / 2),
            away: HashMap::new(),
            shared: Arc::clone(&self),
        };
        let first = self.reclaim_interval();
        self.run_chore_by_timer(chore, first).await;
    }

    fn reclaim_interval(&self) -> Duration {
        INTERVAL.min(self.settings.lease / 6)
    }

    /// The maximum number of tasks of a queue to reclaim in one call.
    fn most_to_reclaim(&self) -> usize {
        (MAX_BATCH / self.queue_names.len().max(1)).max(MIN_OF_QUEUE)
    }

    /// Reclaims tasks of some queues, except those marked to be left alone. Returns the number for each queue.
    async fn reclaim_of(
        &self,
        queues: Vec<(bool, Name)>,
        by: Timestamp,
    ) -> Result<Each<usize>, BrokerError> {
        let queues_to_call = queues.iter().filter(|(left_alone, _)| !left_alone);
        let queues_to_call: Vec<_> = queues_to_call.map(|(_, queue)| queue.clone()).collect();
        let mut reclaimed = Vec::new().into_iter();
        if !queues_to_call.is_empty() {
            reclaimed = self.reclaim(&queues_to_call, by).await?.into_iter();
        }
        let short = || {
            Err(BrokerError::protocol(
                "expected one reclaim result per queue",
            ))
        };
        let result = |(left_alone, _): (bool, Name)| match left_alone {
            true => Ok(0),
            false => reclaimed.next().unwrap_or_else(short),
        };
        Ok(queues.into_iter().map(result).collect())
    }

    async fn reclaim(&self, queues: &[Name], by: Timestamp) -> Result<Each<usize>, BrokerError> {
        let limit = self.most_to_reclaim();
        let found = self.broker.expired(queues, by, limit).await?;
        if found.iter().flatten().all(Vec::is_empty) {
            return Ok(found.into_iter().map(|found| found.map(|_| 0)).collect());
        }
        let own = self.leases();
        let (mut settlements, mut of_queue) = (Vec::new(), Vec::new());
        let mut reclaimed: Each<usize> = Vec::with_capacity(found.len());
        for (place, found) in found.into_iter().enumerate() {
            let before = settlements.len();
            let lost = |leased: &Leased| !own.contains(&leased.lease());
            reclaimed.push(found.map(|found| {
                settlements.extend(
                    found
                        .into_iter()
                        .filter(lost)
                        .map(|lost| lease_expired(&lost)),
                );
                settlements.len() - before
            }));
            of_queue.resize(settlements.len(), place);
        }
        if settlements.is_empty() {
            return Ok(reclaimed);
        }
        let settled = self.broker.settle(&settlements).await?;
        let mut done = Vec::with_capacity(settlements.len());
        for ((settlement, settled), place) in settlements.into_iter().zip(settled).zip(of_queue) {
            match settled {
                Ok(settled) => done.push((settlement, settled)),
                Err(error) => reclaimed[place] = Err(error),
            }
        }
        let (settlements, settled): (Vec<_>, Vec<_>) = done.into_iter().unzip();
        self.note_reclaimed(&settlements, settled);
        Ok(reclaimed)
    }

    fn note_reclaimed(&self, settlements: &[Settlement], settled: Vec<Settled>) {
        for (settlement, settled) in settlements.iter().zip(&settled) {
            if *settled != Settled::Stale {
                Counters::add(&self.counters.reclaimed, 1);
                let task = &settlement.envelope;
                metrics::reclaimed(task, self.registry.knows(&task.event));
                self.log_attempt(settlement, false);
            }
        }
        self.note_archived(settlements, &settled);
        self.statistics.settled(settlements, &settled);
        // A stale one was not lost: its worker is alive, or another server was faster.
        let outcomes = settlements.iter().zip(settled);
        let ended = outcomes.filter(|(_, settled)| *settled != Settled::Stale);
        guarded("metrics", || {
            metrics::settled(ended, |event| self.registry.knows(event));
        });
    }

    /// The leases of all tasks that this server holds: waiting, running, and finished but not recorded.
    pub(super) fn leases(&self) -> HashSet<Lease> {
        let mut leases: HashSet<_> = self.inbox.leases().into_iter().collect();
        leases.extend(self.slots.leases());
        leases.extend(self.outbox.leases());
        leases
    }
}

/// The readings of the broker's clock at recent checks. A lease counts as lost if it had expired at each of them, of
/// which the first was half a lease ago by a monotonic clock. A live worker has extended it since then, because it does
/// so every third of a lease. So a step of the broker's clock, in either direction, expires no lease.
struct Sightings {
    apart: Duration,
    readings: VecDeque<(Instant, Timestamp)>,
}

impl Sightings {
    fn new(apart: Duration) -> Self {
        Self {
            apart,
            readings: VecDeque::new(),
        }
    }

    /// Adds a reading. Returns the time by which a lease must have expired to count as lost.
    fn read(&mut self, at: Instant, now: Timestamp) -> Timestamp {
        let pause = |last: &(Instant, _)| at.duration_since(last.0);
        if self
            .readings
            .back()
            .is_some_and(|last| pause(last) > self.apart)
        {
            // This process was paused, and others may have been too.
            self.forget();
        }
        self.readings.push_back((at, now));
        // Keep only the youngest of the readings that are old enough.
        while self.readings.len() > 1 && at.duration_since(self.readings[1].0) >= self.apart {
            self.readings.pop_front();
        }
        if at.duration_since(self.readings[0].0) < self.apart {
            return Timestamp::default();
        }
        let times = self.readings.iter().map(|(_, time)| *time);
        times.min().unwrap_or_default()
    }

    fn forget(&mut self) {
        self.readings.clear();
    }
}

/// The outcome of an attempt whose worker has stopped extending its lease.
pub(crate) fn lease_expired(lost: &Leased) -> Settlement {
    let failure = Failure {
        attempt: lost.envelope.attempts.saturating_add(1),
        started: None,
        at: lost.now,
        kind: FailureKind::LeaseExpired,
        message: "lease expired: its worker stopped extending it".into(),
        backtrace: None,
        worker: None,
    };
    // Without a backoff: the length of the lease was wait enough.
    let kind = TaskErrorKind::RetryAfter(Duration::ZERO);
    let settlement = after_failure(&lost.envelope, lost.token, kind, failure, true);
    Settlement {
        only_if_expired: true,
        ..settlement
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: Duration = Duration::from_secs(15);

    /// Reads each second from `from` on, and returns the last result.
    fn read_for(seen: &mut Sightings, from: Instant, secs: u64, clock: impl Fn(u64) -> u64) -> u64 {
        let at = |n| from + Duration::from_secs(n);
        let read = |n| seen.read(at(n), Timestamp::from_millis(clock(n)));
        (0..=secs).map(read).last().expect("a reading").as_millis()
    }

    #[test]
    fn a_lease_is_lost_after_it_was_seen_expired_for_half_a_lease() {
        let (mut seen, start) = (Sightings::new(HALF), Instant::now());
        assert_eq!(read_for(&mut seen, start, 14, |n| 1_000 + n), 0);
        let mut seen = Sightings::new(HALF);
        assert_eq!(read_for(&mut seen, start, 15, |n| 1_000 + n), 1_000);
        assert_eq!(read_for(&mut seen, start + HALF, 500, |n| 1_015 + n), 1_500);
        assert!(seen.readings.len() < 20, "bounded");
    }

    #[test]
    fn a_clock_that_steps_forward_expires_no_lease_until_half_a_lease_later() {
        let (mut seen, start) = (Sightings::new(HALF), Instant::now());
        let clock = |n| if n < 20 { 1_000 + n } else { 9_000 + n };
        let by = read_for(&mut seen, start, 30, clock);
        assert!(by < 1_020, "{by}");
        let mut seen = Sightings::new(HALF);
        assert_eq!(read_for(&mut seen, start, 35, clock), 9_020);
    }

    #[test]
    fn a_clock_that_steps_back_counts_immediately() {
        let (mut seen, start) = (Sightings::new(HALF), Instant::now());
        let clock = |n| if n < 20 { 9_000 + n } else { 1_000 + n };
        assert_eq!(read_for(&mut seen, start, 21, clock), 1_020);
    }

    #[test]
    fn a_pause_of_this_process_or_of_the_broker_starts_over() {
        let (mut seen, start) = (Sightings::new(HALF), Instant::now());
        read_for(&mut seen, start, 20, |n| 1_000 + n);
        let later = start + Duration::from_secs(60);
        assert_eq!(
            seen.read(later, Timestamp::from_millis(2_000)).as_millis(),
            0
        );
        seen.forget();
        assert_eq!(
            seen.read(later, Timestamp::from_millis(2_000)).as_millis(),
            0
        );
    }
}
