//! Taking tasks back from lost workers, however clocks behave.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Counters, Shared, is_closed,
    outcome::{after_failure, guarded},
    retrying::Retrying,
};
use crate::{
    broker::{BrokerError, Lease, Leased, Settled, Settlement},
    metrics,
    process::TaskErrorKind,
    task::{Failure, FailureKind, Timestamp},
};

/// The most tasks to reclaim in one call.
const MAX_BATCH: usize = 1_000;

/// How often to look for lost leases; a sixth of the lease if that is shorter.
const INTERVAL: Duration = Duration::from_secs(2);

impl Shared {
    /// Takes tasks back whose worker is lost.
    pub(super) async fn reclaim_lost(self: Arc<Self>) {
        let interval = INTERVAL.min(self.settings.lease / 6);
        let mut retrying = Retrying::new("reclaim lost tasks");
        let mut seen = Sightings::new(self.settings.lease / 2);
        let mut wait = interval;
        while self.runs_after(wait).await {
            wait = match self.reclaim(&mut seen).await {
                Ok(reclaimed) => {
                    retrying.worked();
                    if reclaimed == MAX_BATCH {
                        Duration::ZERO
                    } else {
                        interval
                    }
                }
                Err(error) if is_closed(&error) => return,
                Err(error) => {
                    // While the broker was away no lease could be extended.
                    seen.forget();
                    retrying.failed(&error)
                }
            };
        }
    }

    async fn reclaim(&self, seen: &mut Sightings) -> Result<usize, BrokerError> {
        let by = seen.look(Instant::now(), self.broker.now());
        let expired = self
            .broker
            .expired(&self.queue_names, by, MAX_BATCH)
            .await?;
        if expired.is_empty() {
            return Ok(0);
        }
        let own = self.leases();
        let is_lost = |leased: &&Leased| !own.contains(&leased.lease());
        let settlements: Vec<_> = expired.iter().filter(is_lost).map(lease_expired).collect();
        let settled = self.broker.settle(&settlements).await?;
        for (settlement, settled) in settlements.iter().zip(&settled) {
            if *settled != Settled::Stale {
                Counters::add(&self.counters.reclaimed, 1);
                let task = &settlement.envelope;
                metrics::reclaimed(task, self.registry.knows(&task.event));
                self.log_attempt(settlement);
            }
        }
        self.note_archived(&settlements, &settled);
        // One that was refused was not lost: its worker is alive, or another server was faster.
        let outcomes = settlements.iter().zip(settled);
        let ended = outcomes.filter(|(_, settled)| *settled != Settled::Stale);
        guarded("metrics", || {
            metrics::settled(ended, |event| self.registry.knows(event));
        });
        Ok(expired.len().min(settlements.len()))
    }

    /// The leases of all that this server holds: what waits, what runs, and what is finished and not recorded yet.
    pub(super) fn leases(&self) -> HashSet<Lease> {
        let mut leases: HashSet<_> = self.inbox.leases().into_iter().collect();
        leases.extend(self.slots.leases());
        leases.extend(self.outbox.leases());
        leases
    }
}

/// What the broker's clock showed at the last looks. A lease counts as lost when it had ended by each of them, the
/// first of which was half a lease ago by a clock that cannot be set. A worker that is alive has extended it since: it does
/// so each third of a lease. So a step of the broker's clock ends no lease, in either direction.
struct Sightings {
    apart: Duration,
    looks: VecDeque<(Instant, Timestamp)>,
}

impl Sightings {
    fn new(apart: Duration) -> Self {
        Self {
            apart,
            looks: VecDeque::new(),
        }
    }

    /// Notes a look; returns by when a lease must have ended to be lost.
    fn look(&mut self, at: Instant, now: Timestamp) -> Timestamp {
        let pause = |last: &(Instant, _)| at.duration_since(last.0);
        if self
            .looks
            .back()
            .is_some_and(|last| pause(last) > self.apart)
        {
            // This process was paused, and others may have been too.
            self.forget();
        }
        self.looks.push_back((at, now));
        // Of those that are old enough the youngest will do.
        while self.looks.len() > 1 && at.duration_since(self.looks[1].0) >= self.apart {
            self.looks.pop_front();
        }
        if at.duration_since(self.looks[0].0) < self.apart {
            return Timestamp::default();
        }
        let times = self.looks.iter().map(|(_, time)| *time);
        times.min().unwrap_or_default()
    }

    fn forget(&mut self) {
        self.looks.clear();
    }
}

/// The outcome of an attempt whose worker has stopped extending its lease.
fn lease_expired(lost: &Leased) -> Settlement {
    let failure = Failure {
        attempt: lost.envelope.attempts.saturating_add(1),
        started: None,
        at: lost.now,
        kind: FailureKind::LeaseExpired,
        message: "lease expired: its worker stopped extending it".into(),
        backtrace: None,
        worker: None,
    };
    // At once: the lease's length was wait enough.
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

    /// Looks each second from `from` on, and returns what the last one says.
    fn look_for(seen: &mut Sightings, from: Instant, secs: u64, clock: impl Fn(u64) -> u64) -> u64 {
        let at = |n| from + Duration::from_secs(n);
        let look = |n| seen.look(at(n), Timestamp::from_millis(clock(n)));
        (0..=secs).map(look).last().expect("a look").as_millis()
    }

    #[test]
    fn a_lease_is_lost_once_it_was_seen_expired_for_half_a_lease() {
        let (mut seen, start) = (Sightings::new(HALF), Instant::now());
        assert_eq!(look_for(&mut seen, start, 14, |n| 1_000 + n), 0);
        let mut seen = Sightings::new(HALF);
        assert_eq!(look_for(&mut seen, start, 15, |n| 1_000 + n), 1_000);
        assert_eq!(look_for(&mut seen, start + HALF, 500, |n| 1_015 + n), 1_500);
        assert!(seen.looks.len() < 20, "bounded");
    }

    #[test]
    fn a_clock_that_steps_on_ends_no_lease_until_half_a_lease_later() {
        let (mut seen, start) = (Sightings::new(HALF), Instant::now());
        let clock = |n| if n < 20 { 1_000 + n } else { 9_000 + n };
        let by = look_for(&mut seen, start, 30, clock);
        assert!(by < 1_020, "{by}");
        let mut seen = Sightings::new(HALF);
        assert_eq!(look_for(&mut seen, start, 35, clock), 9_020);
    }

    #[test]
    fn a_clock_that_steps_back_counts_at_once() {
        let (mut seen, start) = (Sightings::new(HALF), Instant::now());
        let clock = |n| if n < 20 { 9_000 + n } else { 1_000 + n };
        assert_eq!(look_for(&mut seen, start, 21, clock), 1_020);
    }

    #[test]
    fn a_pause_of_this_process_or_of_the_broker_begins_anew() {
        let (mut seen, start) = (Sightings::new(HALF), Instant::now());
        look_for(&mut seen, start, 20, |n| 1_000 + n);
        let later = start + Duration::from_secs(60);
        assert_eq!(
            seen.look(later, Timestamp::from_millis(2_000)).as_millis(),
            0
        );
        seen.forget();
        assert_eq!(
            seen.look(later, Timestamp::from_millis(2_000)).as_millis(),
            0
        );
    }
}
