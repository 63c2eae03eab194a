//! Leasing: as much as there is room for, as soon as there is something.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::{
    Shared,
    admission::Received,
    calls::{Answered, Calls},
    hearing::{AFTER_END, AFTER_FAILURE, Heard, Hearing},
    inbox::Job,
    is_closed,
    queues::{QueueSet, Share},
};
use crate::{
    ambient,
    broker::{BrokerError, Each, Leased, Outcome, Signal},
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

/// In how many intervals each queue is polled once while there are signals.
const POLL_IN: f64 = 10.0;

/// How many queues are polled in a second while there are signals, so that the cost of an idle server does not grow with them.
const MAX_POLLS: f64 = 10.0;

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
        let mut poll = interval(self.settings.poll_interval);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut fetcher = Fetcher {
            shared: &self,
            calls: Calls::new(queues.len()),
            queues,
            hearing: Hearing::new(&self),
            poll,
            // Servers that start at the same time poll at different ones.
            polls: ambient::random(),
            woken: Vec::new(),
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
    calls: Calls,
    hearing: Hearing,
    poll: Interval,
    /// How many queues are due to be polled.
    polls: f64,
    /// Queues that this server was woken for since it last asked them.
    woken: Vec<usize>,
    pace: Pace,
    /// Whether nothing here handles the last tasks that came.
    yields: bool,
}

/// When there is more to lease; otherwise only a signal or an answer can tell.
enum MoreRoom {
    /// Once the load here is this low.
    AtLoad(usize),
    /// Once more tasks have left than these.
    AfterLeft(usize),
}

impl Fetcher<'_> {
    async fn run(&mut self) -> Result<(), BrokerError> {
        self.hearing.begin();
        self.act_on_heard()?;
        loop {
            let (target, ahead) = self.target();
            let now = Instant::now();
            // Before the queues' own loads: a task that finishes in between is seen in one of the two.
            let (here, left) = (self.shared.inbox.load(), self.shared.inbox.left());
            let load = here + self.calls.reserved(now);
            let room = self.room(target, load);
            if !self.ask(room, now) {
                let more_room = match room {
                    // Half of what is ahead has to be used up first, for the next lease to be a batch.
                    0 if target > 0 => (target - ahead.div_ceil(2).max(1))
                        .checked_sub(load - here)
                        .map(MoreRoom::AtLoad),
                    // A queue that is at its limit: the next task to leave may be one of its. What a call under way brings is waited
                    // for first.
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
            self.act_on_heard()?;
            if self.shared.stopping.is_cancelled() {
                return self.end().await;
            }
        }
    }

    /// Asks the queues that may have tasks for as much as there is room for. Returns whether any was asked.
    fn ask(&mut self, room: usize, now: Instant) -> bool {
        if room == 0 {
            self.pass_on(&[]);
            return false;
        }
        let (shared, queues) = (self.shared, &mut self.queues);
        let failing = shared.outbox.failing();
        self.calls.open(queues, &failing);
        let mut asks = false;
        for queue in self.calls.to_try(now) {
            let takes = !failing.contains(queues.name(queue));
            if takes && queues.has_room(queue, shared.inbox.load_of(queue)) {
                self.calls.try_again(shared, queues, queue);
                asks = true;
            }
        }
        if self.calls.are_due(now) {
            return asks;
        }
        let shares = queues.shares(room, |queue| shared.inbox.load_of(queue));
        self.pass_on(&shares);
        if !shares.is_empty() {
            self.calls.ask(shared, &mut self.queues, shares, room);
            asks = true;
        }
        asks
    }

    /// Waits for the calls under way: what they lease must be given back.
    async fn end(&mut self) -> Result<(), BrokerError> {
        while let Some(answered) = self.calls.answered().await {
            self.take(answered)?;
        }
        Ok(())
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

    /// Takes in what a call has brought, also when another queue that it asked has failed.
    fn take(&mut self, answered: Answered) -> Result<(), BrokerError> {
        let Answered {
            shares,
            max,
            asked,
            answers,
        } = answered;
        let answers = match answers {
            Ok(answers) => answers,
            Err(error) if is_closed(&error) => return Err(error),
            Err(error) => vec![Err(error); shares.len()],
        };
        let held_until = Job::held_until(asked, self.shared.settings.lease);
        let jobs = self.sort(&shares, max, answers, held_until);
        let count = jobs.len();
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

    /// Finds out which queues may have more: those that gave as many as they were asked for. The others are empty.
    fn sort(
        &mut self,
        shares: &[Share],
        max: usize,
        answers: Each<Vec<Leased>>,
        held_until: Instant,
    ) -> Vec<Job> {
        let since = Instant::now();
        let (mut given, mut jobs) = (vec![0; self.queues.len()], Vec::new());
        let (mut left, mut failed) = (max, Vec::new());
        let mut answers = answers.into_iter();
        for share in shares {
            let short = || BrokerError::protocol("fewer answers than queues");
            match answers.next().unwrap_or_else(|| Err(short())) {
                Ok(leased) => {
                    let asked = share.max.min(left);
                    let count = leased.len();
                    if asked == 0 || count >= asked {
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

    /// Waits until there is more room, or something else is new.
    async fn wait(&mut self, more_room: Option<MoreRoom>) -> Result<(), BrokerError> {
        let Self {
            shared,
            calls,
            hearing,
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
            Some(answered) = calls.answered() => self.take(answered)?,
            () = more_room => {}
            () = shared.slots.opened() => {}
            heard = hearing.next() => self.act_on(heard)?,
            () = again => {}
            _ = poll.tick() => self.poll(),
        }
        Ok(())
    }

    /// Looks for tasks without a signal: in all queues while there are no signals, else in a few, since a signal can be lost.
    fn poll(&mut self) {
        if !self.hearing.is_on() {
            self.queues.set_all_ready();
            self.hearing.begin();
            return;
        }
        let queues = self.queues.len() as f64;
        let most = MAX_POLLS * self.poll.period().as_secs_f64();
        self.polls += (queues / POLL_IN).min(most);
        self.queues.set_next_ready(self.polls as usize);
        self.polls = self.polls.fract();
    }

    fn act_on(&mut self, heard: Heard) -> Result<(), BrokerError> {
        let period = self.poll.period();
        match heard {
            Heard::Signal(signal) => self.act_on_signal(signal),
            // What was asked for before had nobody to be signalled to.
            Heard::Began => self.queues.set_all_ready(),
            // Signals until the next subscription are lost, so the next look is soon.
            Heard::Ended => self.poll.reset_after(AFTER_END.min(period)),
            Heard::Failed(error) if is_closed(&error) => return Err(error),
            Heard::Failed(error) => {
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
            Signal::Cancel(task) => self.shared.ask_if_cancelled(&task),
        }
    }

    fn act_on_heard(&mut self) -> Result<(), BrokerError> {
        while let Some(heard) = self.hearing.next_now() {
            self.act_on(heard)?;
        }
        Ok(())
    }

    /// Lets another server take what this one was woken for and has no room for. Of a queue that is being asked, that is not
    /// known yet.
    fn pass_on(&mut self, shares: &[Share]) {
        self.woken.sort_unstable();
        self.woken.dedup();
        let is_asked = |queue: &usize| self.calls.is_asked(*queue);
        let (later, now): (Vec<_>, Vec<_>) = self.woken.drain(..).partition(is_asked);
        self.woken = later;
        for queue in now {
            if shares.iter().any(|share| share.queue == queue) {
                continue;
            }
            let (shared, queue) = (Arc::clone(self.shared), self.queues.name(queue).clone());
            // Beside the work, which it must not hold up.
            tokio::spawn(ambient::here(async move {
                if let Err(error) = shared.broker.pass_on(&queue).await {
                    tracing::debug!(%error, %queue, "a wake-up could not be passed on; left to a poll");
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
