//! Leasing: as much as there is room for, as soon as there is something.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, stream::Fuse};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::{
    Shared,
    admission::Received,
    inbox::Job,
    is_closed,
    queues::{QueueSet, Share},
    retrying::Retrying,
};
use crate::{
    broker::{BrokerError, LeaseRequest, Leased, Outcome, Signal, Signals},
    layer::Passes,
};

/// The most tasks to lease in one call.
const MAX_BATCH: usize = 1_000;

/// Besides a task for each slot, the server leases ahead what it finishes in this time: nothing where tasks are long,
/// so that none waits here while another server idles, and enough where they are quick to keep the slots busy.
const AHEAD: Duration = Duration::from_millis(5);

/// The most outcomes that may wait to be recorded before no more tasks are leased: a broker that gives tasks and takes
/// no outcomes must not be emptied.
const MAX_UNRECORDED: usize = 4 * MAX_BATCH;

/// How long to leave precedence to other servers after tasks that nothing here handles: giving back is quicker than working, so
/// this server would win most of them again.
const YIELD: Duration = Duration::from_millis(5);

/// How long a subscription to signals may take, and how long to wait after one that failed.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(1);

/// How soon to listen again when signals end.
const LISTEN_AGAIN: Duration = Duration::from_millis(50);

impl Shared {
    /// Leases until the server stops.
    ///
    /// # Errors
    ///
    /// When the broker is closed.
    pub(super) async fn fetch(self: Arc<Self>, queues: QueueSet) -> Result<(), BrokerError> {
        let pace = Pace {
            since: Instant::now(),
            finished: 0,
            per_second: 0.0,
        };
        let mut fetcher = Fetcher {
            shared: &self,
            queues,
            signals: None,
            pace,
            yields: false,
        };
        // Also when the broker is closed or panics: then the server has nothing to go on for.
        let _stop = self.stopping.clone().drop_guard();
        fetcher.run().await
    }
}

struct Fetcher<'a> {
    shared: &'a Arc<Shared>,
    queues: QueueSet,
    /// Fused, since their end may be met while signals are drained, and is acted on in the next wait.
    signals: Option<Fuse<Signals>>,
    pace: Pace,
    /// Whether nothing here handles the last tasks that came.
    yields: bool,
}

impl Fetcher<'_> {
    async fn run(&mut self) -> Result<(), BrokerError> {
        let mut retrying = Retrying::new("lease");
        let mut poll = interval(self.shared.settings.poll_interval);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Before the first lease, so that no cancellation of what it brings goes unheard.
        self.listen(&mut poll).await?;
        loop {
            let (target, ahead) = self.target();
            // Before the queues' own loads: a task that finishes in between is seen in one of the two.
            let load = self.shared.inbox.load();
            let room = self.room(target, load);
            let shares = self
                .queues
                .shares(room, |queue| self.shared.inbox.load_of(queue));
            if !shares.is_empty() {
                match self.lease(&shares, room).await {
                    Ok(()) => retrying.worked(),
                    Err(error) if is_closed(&error) => return Err(error),
                    Err(error) => self.pause(retrying.failed(&error)).await,
                }
                self.drain_signals();
            } else {
                self.wait(self.load_to_wait_for(room, load, target, ahead), &mut poll)
                    .await?;
                if self.yields {
                    self.pause(YIELD).await;
                }
            }
            if self.shared.stopping.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// How many tasks to have here, and how many of them ahead of the slots.
    fn target(&mut self) -> (usize, usize) {
        let finished = self.shared.counters.finished.load(Ordering::Relaxed);
        let ahead = self.pace.per_second(finished) * AHEAD.as_secs_f64();
        let ahead = (ahead as usize).min(MAX_BATCH);
        if self.shared.quiet.is_on() {
            return (0, 0);
        }
        match self.shared.slots.open() {
            // Nothing to lease ahead for.
            0 => (0, 0),
            slots => (slots + ahead, ahead),
        }
    }

    /// How many tasks to lease now.
    fn room(&self, target: usize, load: usize) -> usize {
        if self.shared.outbox.unrecorded() > MAX_UNRECORDED {
            return 0;
        }
        target.saturating_sub(load).min(MAX_BATCH)
    }

    async fn lease(&mut self, shares: &[Share], room: usize) -> Result<(), BrokerError> {
        let request = LeaseRequest {
            queues: shares
                .iter()
                .map(|share| (self.queues.name(share.queue).clone(), share.max))
                .collect(),
            max: room,
            lease: self.shared.settings.lease,
            worker: self.shared.worker.clone(),
        };
        let leased = self.shared.broker.lease(&request).await?;
        let count = leased.len();
        let jobs = self.sort(shares, request.max, leased);
        let Received { jobs, unhandled } = self.shared.receive(jobs);
        if count > 0 {
            self.yields = unhandled == count;
        }
        // The last one first: each goes to the front of its queue.
        for job in self.shared.inbox.push(jobs).into_iter().rev() {
            self.shared.outbox.push(job.leased.settle(Outcome::Release));
        }
        Ok(())
    }

    /// Finds each task's queue, and which queues are empty by now: those that gave fewer than they were asked for.
    fn sort(&mut self, shares: &[Share], max: usize, leased: Vec<Leased>) -> Vec<Job> {
        let since = std::time::Instant::now();
        let mut given = vec![0; self.queues.len()];
        let mut place = shares.first().map_or(0, |share| share.queue);
        let jobs = leased.into_iter().map(|leased| {
            if *self.queues.name(place) != *leased.envelope.queue {
                place = self
                    .queues
                    .position(&leased.envelope.queue)
                    .unwrap_or(place);
            }
            given[place] += 1;
            Job {
                leased,
                queue: place,
                since,
                passes: Passes::default(),
            }
        });
        let mut jobs: Vec<_> = jobs.collect();
        if self.queues.share_turns() {
            interleave(&mut jobs, &given);
        }
        let mut left = max;
        for share in shares {
            let asked = share.max.min(left);
            self.queues
                .set_ready(share.queue, asked == 0 || given[share.queue] >= asked);
            left -= given[share.queue].min(left);
        }
        jobs
    }

    /// At which load there is more to lease; `None` if only a signal can tell.
    fn load_to_wait_for(
        &self,
        room: usize,
        load: usize,
        target: usize,
        ahead: usize,
    ) -> Option<usize> {
        match room {
            // Half of what is ahead has to be used up first, for the next lease to be a batch.
            0 if target > 0 => Some(target - ahead.div_ceil(2).max(1)),
            // A queue that is at its limit: the next task to finish may be one of its.
            1.. if self.queues.any_ready() => Some(load.saturating_sub(1)),
            _ => None,
        }
    }

    /// Waits until the load is that low, or something else is new.
    async fn wait(&mut self, load: Option<usize>, poll: &mut Interval) -> Result<(), BrokerError> {
        let Self {
            shared, signals, ..
        } = self;
        let more_room = async {
            match load {
                Some(load) => {
                    shared.inbox.load_at_most(load).await;
                    shared.outbox.unrecorded_at_most(MAX_UNRECORDED).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.stopping.cancelled() => {}
            () = more_room => {}
            () = shared.slots.opened() => {}
            signal = next(signals) => match signal {
                Some(signal) => self.act_on(signal),
                None => {
                    // What was signalled meanwhile is lost too, so the next look is soon.
                    self.signals = None;
                    poll.reset_after(LISTEN_AGAIN.min(poll.period()));
                }
            },
            _ = poll.tick() => {
                self.queues.set_all_ready();
                if self.signals.is_none() {
                    self.listen(poll).await?;
                }
            }
        }
        Ok(())
    }

    /// Subscribes to signals, or sees to it that this is tried again soon. A broker that takes long over it must not keep
    /// the server from leasing.
    async fn listen(&mut self, poll: &mut Interval) -> Result<(), BrokerError> {
        let subscribing = self.shared.broker.signals(&self.shared.queue_names);
        match tokio::time::timeout(LISTEN_TIMEOUT, subscribing).await {
            Ok(Ok(signals)) => {
                self.signals = Some(signals.fuse());
                // What was signalled before there was anyone to hear it: a task that was scheduled, one that was cancelled.
                self.shared.due.notify_one();
                self.shared.group_due.notify_one();
                self.shared.unheard.notify_one();
                return Ok(());
            }
            Ok(Err(error)) if is_closed(&error) => return Err(error),
            Ok(Err(error)) => tracing::debug!(%error, "no signals from the broker; polling"),
            Err(_) => tracing::debug!("no signals from the broker in time; polling"),
        }
        poll.reset_after(LISTEN_TIMEOUT.min(poll.period()));
        Ok(())
    }

    fn act_on(&mut self, signal: Signal) {
        match signal {
            Signal::Pending(queue) => {
                if let Some(queue) = self.queues.position(&queue) {
                    self.queues.set_ready(queue, true);
                }
            }
            Signal::Due(..) => {
                self.shared.due.notify_one();
                self.shared.group_due.notify_one();
            }
            Signal::Cancel(task) => self.shared.cancel(&task),
        }
    }

    fn drain_signals(&mut self) {
        while let Some(Some(signal)) = next(&mut self.signals).now_or_never() {
            self.act_on(signal);
        }
    }

    async fn pause(&mut self, wait: Duration) {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.shared.stopping.cancelled() => {}
        }
    }
}

/// Spreads the tasks of each queue evenly over a batch, so that a large one is no row of turns of one queue.
fn interleave(jobs: &mut [Job], given: &[usize]) {
    if given.iter().filter(|given| **given > 0).count() < 2 {
        return;
    }
    let mut turns = vec![0; given.len()];
    // The middle of the k-th of n equal parts of the batch, in halves of a millionth of it.
    jobs.sort_by_cached_key(|job| {
        turns[job.queue] += 1;
        (2 * turns[job.queue] - 1) * 1_000_000 / given[job.queue]
    });
}

/// The next signal; `None` when they have ended, and never where there are none.
async fn next(signals: &mut Option<Fuse<Signals>>) -> Option<Signal> {
    match signals {
        Some(signals) => signals.next().await,
        None => std::future::pending().await,
    }
}

/// How many tasks the server has recently finished in a second.
struct Pace {
    since: Instant,
    finished: u64,
    per_second: f64,
}

impl Pace {
    fn per_second(&mut self, finished: u64) -> f64 {
        let elapsed = self.since.elapsed();
        if elapsed >= AHEAD {
            let rate = (finished - self.finished) as f64 / elapsed.as_secs_f64();
            // The longer ago the last look, the less it counts: half after each `AHEAD`.
            let kept = 0.5_f64.powf(elapsed.div_duration_f64(AHEAD));
            self.per_second = self.per_second * kept + rate * (1.0 - kept);
            (self.since, self.finished) = (Instant::now(), finished);
        }
        self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::{super::inbox::tests::job, *};

    #[test]
    fn a_batch_takes_turns_by_what_each_queue_gave() {
        let mut jobs: Vec<_> = [0; 6]
            .into_iter()
            .chain([1; 3])
            .chain([2])
            .map(job)
            .collect();
        interleave(&mut jobs, &[6, 3, 1]);
        let order: Vec<_> = jobs.iter().map(|job| job.queue).collect();
        assert_eq!(order, [0, 1, 0, 0, 1, 2, 0, 0, 1, 0]);
    }

    #[test]
    fn tasks_of_one_queue_keep_their_order() {
        let mut jobs: Vec<_> = [0, 0, 0, 1, 1].into_iter().map(job).collect();
        let ids = |jobs: &[Job]| -> Vec<_> {
            let of_first = jobs.iter().filter(|job| job.queue == 0);
            of_first.map(|job| job.leased.envelope.id.clone()).collect()
        };
        let before = ids(&jobs);
        interleave(&mut jobs, &[3, 2]);
        assert_eq!(ids(&jobs), before);
    }
}
