//! Leasing tasks whenever there is room for them.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::{
    Shared,
    admission::Received,
    calls::{Calls, Response},
    inbox::Job,
    is_closed,
    listener::{AFTER_END, AFTER_FAILURE, Listener, ListenerEvent},
    queues::{QueueSet, Share},
};
use crate::{
    ambient,
    broker::{BrokerError, Each, Leased, Outcome, Signal},
    layer::Passes,
};

/// The maximum number of tasks to lease in one call.
const MAX_BATCH: usize = 1_000;

/// Besides one task per slot, the server leases ahead what it finishes in this time. Long tasks are not leased ahead,
/// so that none waits here while another server is idle; with short tasks, enough are leased to keep the slots busy.
const AHEAD: Duration = Duration::from_millis(5);

/// The maximum number of unrecorded outcomes before leasing stops. Otherwise a broker that leases tasks but accepts no
/// outcomes would be emptied.
const MAX_UNRECORDED: usize = 4 * MAX_BATCH;

/// How long to let other servers go first after a batch of tasks without a handler here. Releasing is faster than
/// running tasks, so this server would otherwise lease most of them again.
const YIELD: Duration = Duration::from_millis(5);

/// While there are signals, each queue is polled once in this many intervals.
const POLL_IN: f64 = 10.0;

/// The maximum number of queues polled per second while there are signals. It bounds the cost of an idle server with
/// many queues.
const MAX_POLLS: f64 = 10.0;

impl Shared {
    /// Leases until the server stops.
    ///
    /// # Errors
    ///
    /// If the broker is closed.
    pub(super) async fn fetch(self: Arc<Self>, queues: QueueSet) -> Result<(), BrokerError> {
        let pace = Pace {
            since: Instant::now(),
            finished: 0,
            per_second: 0.0,
        };
        let mut poll = interval(self.settings.poll_interval);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut fetcher = Fetcher {
            shared: &self,
            calls: Calls::new(queues.len()),
            queues,
            listener: Listener::new(&self),
            poll,
            // Spreads the polls of servers that start together.
            polls: ambient::random(),
            woken: Vec::new(),
            pace,
            yields: false,
        };
        // Also when the broker is closed or panics: without leasing, the server has to stop.
        let _stop = self.stopping.clone().drop_guard();
        fetcher.run().await
    }
}

struct Fetcher<'a> {
    shared: &'a Arc<Shared>,
    queues: QueueSet,
    calls: Calls,
    listener: Listener,
    poll: Interval,
    /// How many queues are due to be polled.
    polls: f64,
    /// Queues this server was woken for since the last lease call.
    woken: Vec<usize>,
    pace: Pace,
    /// Whether the last batch had no task with a handler here.
    yields: bool,
}

/// When there will be room to lease. Without it, only a signal or a response can change anything.
enum MoreRoom {
    /// When the load is at most this.
    AtLoad(usize),
    /// When more tasks than this have left.
    AfterLeft(usize),
}

impl Fetcher<'_> {
    async fn run(&mut self) -> Result<(), BrokerError> {
        self.listener.start();
        self.act_on_events()?;
        loop {
            let (target, ahead) = self.target();
            let now = Instant::now();
            // Read before the loads of the queues, so that a task that finishes in between is seen in one of the two.
            let (here, left) = (self.shared.inbox.load(), self.shared.inbox.left());
            let load = here + self.calls.reserved(now);
            let room = self.room(target, load);
            if !self.lease(room, now) {
                let more_room = match room {
                    // Wait until half of the tasks leased ahead are used up, so that the next lease is a batch.
                    0 if target > 0 => (target - ahead.div_ceil(2).max(1))
                        .checked_sub(load - here)
                        .map(MoreRoom::AtLoad),
                    // A queue is at its limit, and the next task to leave may belong to it. The result of a call under
                    // way is awaited first.
                    1.. if self.queues.any_ready() && !self.calls.are_due(now) => {
                        Some(MoreRoom::AfterLeft(left))
                    }
                    _ => None,
                };
                self.wait(more_room).await?;
                if self.yields {
                    self.pause(YIELD).await;
                }
            }
            self.act_on_events()?;
            if self.shared.stopping.is_cancelled() {
                return self.end().await;
            }
        }
    }

    /// Leases from the queues that may have tasks, up to `room`. Returns whether any call was made.
    fn lease(&mut self, room: usize, now: Instant) -> bool {
        if room == 0 {
            self.pass_on(&[]);
            return false;
        }
        let (shared, queues) = (self.shared, &mut self.queues);
        let failing = shared.outbox.failing();
        self.calls.open(queues, &failing);
        let mut called_any = false;
        for queue in self.calls.to_try(now) {
            let takes = !failing.contains(queues.name(queue));
            if takes && queues.has_room(queue, shared.inbox.load_of(queue)) {
                self.calls.try_again(shared, queues, queue);
                called_any = true;
            }
        }
        if self.calls.are_due(now) {
            return called_any;
        }
        let shares = queues.shares(room, |queue| shared.inbox.load_of(queue));
        self.pass_on(&shares);
        if !shares.is_empty() {
            self.calls.lease(shared, &mut self.queues, shares, room);
            called_any = true;
        }
        called_any
    }

    /// Waits for the calls under way: the tasks they lease must be released.
    async fn end(&mut self) -> Result<(), BrokerError> {
        while let Some(response) = self.calls.next_response().await {
            self.take(response)?;
        }
        Ok(())
    }

    /// How many tasks to hold, and how many of them are ahead of the slots.
    fn target(&mut self) -> (usize, usize) {
        let finished = self.shared.counters.finished.load(Ordering::Relaxed);
        let ahead = self.pace.per_second(finished) * AHEAD.as_secs_f64();
        let ahead = (ahead as usize).min(MAX_BATCH);
        if self.shared.quiet.is_on() {
            return (0, 0);
        }
        match self.shared.slots.open() {
            // No slot to lease for.
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

    /// Processes the result of a call. Tasks of one queue are kept when another queue of the call fails.
    fn take(&mut self, response: Response) -> Result<(), BrokerError> {
        let Response {
            shares,
            max,
            called,
            results,
        } = response;
        let results = match results {
            Ok(results) => results,
            Err(error) if is_closed(&error) => return Err(error),
            Err(error) => vec![Err(error); shares.len()],
        };
        let held_until = Job::held_until(called, self.shared.settings.lease);
        let jobs = self.sort(&shares, max, results, held_until);
        let count = jobs.len();
        let Received { jobs, unhandled } = self.shared.receive(jobs);
        if count > 0 {
            self.yields = unhandled == count;
        }
        // Each goes to the front of its queue, so the last one is released first.
        for job in self.shared.inbox.push(jobs).into_iter().rev() {
            self.shared.outbox.push(job.leased.settle(Outcome::Release));
        }
        Ok(())
    }

    /// Turns the results into jobs. Queues that filled their share may have more tasks; the others are empty.
    fn sort(
        &mut self,
        shares: &[Share],
        max: usize,
        results: Each<Vec<Leased>>,
        held_until: Instant,
    ) -> Vec<Job> {
        let since = Instant::now();
        let (mut given, mut jobs) = (vec![0; self.queues.len()], Vec::new());
        let (mut left, mut failed) = (max, Vec::new());
        let mut results = results.into_iter();
        for share in shares {
            let short = || BrokerError::protocol("expected one lease result per queue");
            match results.next().unwrap_or_else(|| Err(short())) {
                Ok(leased) => {
                    let requested = share.max.min(left);
                    let count = leased.len();
                    if requested == 0 || count >= requested {
                        self.queues.set_ready(share.queue, true);
                    }
                    left -= count.min(left);
                    given[share.queue] = count;
                    jobs.extend(leased.into_iter().map(|leased| Job {
                        leased,
                        queue: share.queue,
                        since,
                        held_until,
                        passes: Passes::default(),
                    }));
                    self.calls.worked(&self.queues, share.queue);
                }
                Err(error) => failed.push((share.queue, error)),
            }
        }
        if !failed.is_empty() {
            self.calls.failed(&mut self.queues, failed);
        }
        if self.queues.share_turns() {
            interleave(&mut jobs, &given);
        }
        jobs
    }

    /// Waits until there is more room, or something has changed.
    async fn wait(&mut self, more_room: Option<MoreRoom>) -> Result<(), BrokerError> {
        let Self {
            shared,
            calls,
            listener,
            poll,
            ..
        } = self;
        let more_room = async {
            match more_room {
                Some(MoreRoom::AtLoad(load)) => shared.inbox.load_at_most(load).await,
                Some(MoreRoom::AfterLeft(left)) => shared.inbox.left_more_than(left).await,
                None => std::future::pending().await,
            }
            shared.outbox.unrecorded_at_most(MAX_UNRECORDED).await;
        };
        let again = calls.next(Instant::now());
        tokio::select! {
            () = shared.stopping.cancelled() => {}
            Some(response) = calls.next_response() => self.take(response)?,
            () = more_room => {}
            () = shared.slots.opened() => {}
            event = listener.next() => self.act_on(event)?,
            () = again => {}
            _ = poll.tick() => self.poll(),
        }
        Ok(())
    }

    /// Looks for tasks without a signal: in all queues while there are no signals, otherwise in a few, because a signal
    /// can be lost.
    fn poll(&mut self) {
        if !self.listener.is_on() {
            self.queues.set_all_ready();
            self.listener.start();
            return;
        }
        let queues = self.queues.len() as f64;
        let most = MAX_POLLS * self.poll.period().as_secs_f64();
        self.polls += (queues / POLL_IN).min(most);
        self.queues.set_next_ready(self.polls as usize);
        self.polls = self.polls.fract();
    }

    fn act_on(&mut self, event: ListenerEvent) -> Result<(), BrokerError> {
        let period = self.poll.period();
        match event {
            ListenerEvent::Signal(signal) => self.act_on_signal(signal),
            // Tasks that came before the subscription were not signalled.
            ListenerEvent::Started => self.queues.set_all_ready(),
            // Signals are lost until the next subscription, so poll again soon.
            ListenerEvent::Ended => self.poll.reset_after(AFTER_END.min(period)),
            ListenerEvent::Failed(error) if is_closed(&error) => return Err(error),
            ListenerEvent::Failed(error) => {
                tracing::debug!(%error, "no signals from the broker; polling");
                self.poll.reset_after(AFTER_FAILURE.min(period));
            }
        }
        Ok(())
    }

    fn act_on_signal(&mut self, signal: Signal) {
        match signal {
            Signal::Pending(queue) => {
                if let Some(queue) = self.queues.position(&queue) {
                    self.queues.set_ready(queue, true);
                    self.woken.push(queue);
                }
            }
            Signal::Due(..) => {
                self.shared.due.notify_one();
                self.shared.group_due.notify_one();
            }
            Signal::Cancel(task) => self.shared.check_if_cancelled(&task),
        }
    }

    fn act_on_events(&mut self) -> Result<(), BrokerError> {
        while let Some(event) = self.listener.next_now() {
            self.act_on(event)?;
        }
        Ok(())
    }

    /// Passes a wake-up on to another server if there is no room here. A queue with a call under way is decided when
    /// that returns.
    fn pass_on(&mut self, shares: &[Share]) {
        self.woken.sort_unstable();
        self.woken.dedup();
        let is_calling = |queue: &usize| self.calls.is_calling(*queue);
        let (later, now): (Vec<_>, Vec<_>) = self.woken.drain(..).partition(is_calling);
        self.woken = later;
        for queue in now {
            if shares.iter().any(|share| share.queue == queue) {
                continue;
            }
            let (shared, queue) = (Arc::clone(self.shared), self.queues.name(queue).clone());
            // In the background, so that it does not delay leasing.
            tokio::spawn(ambient::here(async move {
                if let Err(error) = shared.broker.pass_on(&queue).await {
                    tracing::debug!(%error, %queue, "could not pass on a wake-up; the next poll finds the task");
                }
            }));
        }
    }

    async fn pause(&mut self, wait: Duration) {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.shared.stopping.cancelled() => {}
        }
    }
}

/// Spreads the tasks of each queue evenly over the batch, so that a large queue does not take many turns in a row.
fn interleave(jobs: &mut [Job], given: &[usize]) {
    if given.iter().filter(|given| **given > 0).count() < 2 {
        return;
    }
    let mut turns = vec![0; given.len()];
    // The sort key: the middle of the k-th of n equal parts of the batch, in half millionths.
    jobs.sort_by_cached_key(|job| {
        turns[job.queue] += 1;
        (2 * turns[job.queue] - 1) * 1_000_000 / given[job.queue]
    });
}

/// The recent rate of finished tasks.
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
            // An exponential average with a half-life of `AHEAD`.
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
    fn a_batch_interleaves_its_queues_in_proportion() {
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
