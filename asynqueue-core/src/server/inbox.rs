//! Leased tasks that wait for a slot.

use std::{
    collections::{HashSet, VecDeque},
    future::poll_fn,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    task::Poll,
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    broker::{Lease, Leased},
    layer::Passes,
    sync::Mutex,
    task::TaskRef,
};

/// The upper bound of a lease in this process.
const FAR_AWAY: Duration = Duration::from_secs(365 * 24 * 3600);

/// A leased task, and the queue of the server that it belongs to.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) leased: Leased,
    pub(super) queue: usize,
    /// When it arrived here.
    pub(super) since: Instant,
    /// The lease certainly holds until then. Counted from before the call that leased the task or extended the lease,
    /// because the response can be late and this process can be paused.
    pub(super) held_until: Instant,
    /// Its passes through the limits of its handler.
    pub(super) passes: Passes,
}

impl Job {
    /// Until when a lease certainly holds if the call for it was made at `called`.
    pub(super) fn held_until(called: Instant, lease: Duration) -> Instant {
        called + lease.min(FAR_AWAY)
    }

    /// Adds the passes through the limits of its handler.
    pub(super) fn with_passes(self, passes: Passes) -> Self {
        Self { passes, ..self }
    }
}

/// Holds leased tasks that have not started, and counts all unfinished tasks of this server.
#[derive(Debug)]
pub(super) struct Inbox {
    jobs: Mutex<Jobs>,
    /// Notified to wake a slot.
    available: Notify,
    /// Leased and unfinished tasks, here or in a slot.
    load: AtomicUsize,
    load_of_queue: Vec<AtomicUsize>,
    /// How many tasks have left. Each may have made room in a queue at its limit.
    left: AtomicUsize,
    /// The fetcher is woken when a finished task brings the load down to this.
    low_water: AtomicUsize,
    room: Notify,
}

#[derive(Debug, Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    /// Tasks that wait for a limit. They count for their queue, but not for the load.
    held: Vec<Job>,
    /// A woken slot is on its way. One at a time is enough, because each wakes the next. So a few busy slots take all
    /// quick tasks, and the other slots sleep.
    waking: bool,
    closed: bool,
}

/// What a slot gets when it requests a job.
enum Next {
    Job(Job),
    /// Another slot was woken, and this one has to leave the thread to it first.
    AfterOthers,
    None,
    Closed,
}

impl Inbox {
    pub(super) fn new(queues: usize) -> Self {
        Self {
            jobs: Mutex::default(),
            available: Notify::new(),
            load: AtomicUsize::new(0),
            load_of_queue: (0..queues).map(|_| AtomicUsize::new(0)).collect(),
            left: AtomicUsize::new(0),
            low_water: AtomicUsize::new(0),
            room: Notify::new(),
        }
    }

    /// Adds jobs. Returns them if the inbox is closed.
    pub(super) fn push(&self, jobs: Vec<Job>) -> Vec<Job> {
        let mut inbox = self.jobs.lock();
        if inbox.closed {
            return jobs;
        }
        self.load.fetch_add(jobs.len(), SeqCst);
        for job in &jobs {
            self.load_of_queue[job.queue].fetch_add(1, SeqCst);
        }
        inbox.waiting.extend(jobs);
        self.wake_one(&mut inbox);
        Vec::new()
    }

    /// Holds a job that waits for a limit. Returns it if the inbox is closed.
    pub(super) fn hold(&self, job: Job) -> Result<(), Job> {
        let mut jobs = self.jobs.lock();
        if jobs.closed {
            return Err(job);
        }
        self.load_of_queue[job.queue].fetch_add(1, SeqCst);
        jobs.held.push(job);
        Ok(())
    }

    /// Makes a held job available to the slots, if it is still here.
    pub(super) fn admit(&self, lease: &Lease, passes: Passes) {
        let mut jobs = self.jobs.lock();
        if let Some(mut job) = jobs.take_held(|leased| leased.lease() == *lease) {
            self.load.fetch_add(1, SeqCst);
            job.since = Instant::now();
            jobs.waiting.push_back(job.with_passes(passes));
            self.wake_one(&mut jobs);
        }
    }

    /// Removes a held job, if it is still here.
    pub(super) fn take_held(&self, lease: &Lease) -> Option<Job> {
        let held = (self.jobs.lock()).take_held(|leased| leased.lease() == *lease)?;
        self.leave(held.queue, self.load());
        Some(held)
    }

    /// Waits for the next job. Returns `None` when the inbox is closed.
    pub(super) async fn next(&self) -> Option<Job> {
        let mut woken = false;
        loop {
            match self.try_next(woken) {
                Next::Job(job) => return Some(job),
                Next::Closed => return None,
                Next::AfterOthers => {
                    step_back().await;
                    woken = false;
                }
                Next::None => {
                    // A wake-up that came before this line has left a permit.
                    self.available.notified().await;
                    woken = true;
                }
            }
        }
    }

    fn try_next(&self, woken: bool) -> Next {
        let mut jobs = self.jobs.lock();
        if woken {
            jobs.waking = false;
        }
        if jobs.waiting.len() > 1 && self.wake_one(&mut jobs) {
            return Next::AfterOthers;
        }
        match jobs.waiting.pop_front() {
            Some(job) => Next::Job(job),
            None if jobs.closed => {
                // All waiting slots have to see it.
                self.available.notify_one();
                Next::Closed
            }
            None => Next::None,
        }
    }

    /// Wakes a slot if tasks wait and none was woken. Returns whether it did.
    fn wake_one(&self, jobs: &mut Jobs) -> bool {
        let wakes = !jobs.waiting.is_empty() && !jobs.waking;
        if wakes {
            jobs.waking = true;
            self.available.notify_one();
        }
        wakes
    }

    /// Wakes another slot if tasks wait, even if one was woken already. That one may be scheduled on a thread blocked
    /// by a handler, from which tokio does not let other threads steal it.
    pub(super) fn nudge(&self) {
        if !self.jobs.lock().waiting.is_empty() {
            self.available.notify_one();
        }
    }

    /// Counts a task that was not pushed here as started.
    #[cfg(feature = "testing")]
    pub(super) fn started(&self, queue: usize) {
        self.load_of_queue[queue].fetch_add(1, SeqCst);
        self.load.fetch_add(1, SeqCst);
    }

    /// Counts a task as finished once its outcome is in the outbox.
    pub(super) fn finished(&self, queue: usize) {
        let load = self.load.fetch_sub(1, SeqCst) - 1;
        self.leave(queue, load);
    }

    fn leave(&self, queue: usize, load: usize) {
        self.load_of_queue[queue].fetch_sub(1, SeqCst);
        self.left.fetch_add(1, SeqCst);
        if load <= self.low_water.load(SeqCst) {
            self.room.notify_one();
        }
    }

    pub(super) fn load(&self) -> usize {
        self.load.load(SeqCst)
    }

    pub(super) fn load_of(&self, queue: usize) -> usize {
        self.load_of_queue[queue].load(SeqCst)
    }

    /// Waits until the load is at most `load`.
    pub(super) async fn load_at_most(&self, load: usize) {
        // This store and the load below are ordered against their counterparts in `finished`: if they race, at least
        // one side sees the other.
        self.low_water.store(load, SeqCst);
        while self.load() > load {
            self.room.notified().await;
        }
    }

    /// How many tasks have left so far.
    pub(super) fn left(&self) -> usize {
        self.left.load(SeqCst)
    }

    /// Waits until more tasks have left than `before`.
    pub(super) async fn left_more_than(&self, before: usize) {
        // Wake at any load. The ordering is as above.
        self.low_water.store(usize::MAX, SeqCst);
        while self.left() == before {
            self.room.notified().await;
        }
    }

    /// The leases of the tasks that wait here.
    pub(super) fn leases(&self) -> Vec<Lease> {
        self.jobs
            .lock()
            .all()
            .map(|job| job.leased.lease())
            .collect()
    }

    /// Records that leases were extended.
    pub(super) fn extended<'a>(
        &self,
        leases: impl Iterator<Item = &'a Lease>,
        held_until: Instant,
    ) {
        let mut jobs = self.jobs.lock();
        if jobs.all().next().is_none() {
            // Most leases belong to running tasks.
            return;
        }
        let leases: HashSet<_> = leases.collect();
        for job in jobs.all_mut() {
            if leases.contains(&job.leased.lease()) {
                job.held_until = held_until;
            }
        }
    }

    /// The leases under which a task waits here.
    pub(super) fn leases_of(&self, task: &TaskRef) -> Vec<Lease> {
        let jobs = self.jobs.lock();
        let is_it = |job: &&Job| {
            let envelope = &job.leased.envelope;
            envelope.id == task.id && envelope.queue == task.queue
        };
        jobs.all()
            .filter(is_it)
            .map(|job| job.leased.lease())
            .collect()
    }

    /// Removes the jobs that have waited for a slot longer than `limit`. They still count.
    pub(super) fn take_hoarded(&self, limit: Duration, now: Instant) -> Vec<Job> {
        let mut jobs = self.jobs.lock();
        // The oldest are in front.
        let is_old = |job: &&Job| now.saturating_duration_since(job.since) > limit;
        let count = jobs.waiting.iter().take_while(is_old).count();
        jobs.waiting.drain(..count).collect()
    }

    /// Removes the jobs that have not started. They still count.
    pub(super) fn take_waiting(&self) -> Vec<Job> {
        self.drain(&mut self.jobs.lock())
    }

    fn drain(&self, jobs: &mut Jobs) -> Vec<Job> {
        let held = std::mem::take(&mut jobs.held);
        self.load.fetch_add(held.len(), SeqCst);
        jobs.waiting.drain(..).chain(held).collect()
    }

    /// Removes a job that has not started. It still counts.
    pub(super) fn remove(&self, is_it: impl Fn(&Leased) -> bool) -> Option<Job> {
        let mut jobs = self.jobs.lock();
        if let Some(place) = jobs.waiting.iter().position(|job| is_it(&job.leased)) {
            return jobs.waiting.remove(place);
        }
        let held = jobs.take_held(is_it)?;
        self.load.fetch_add(1, SeqCst);
        Some(held)
    }

    /// Closes the inbox, which ends the slots, and returns the jobs that have not started.
    pub(super) fn close(&self) -> Vec<Job> {
        let mut jobs = self.jobs.lock();
        jobs.closed = true;
        self.available.notify_one();
        self.drain(&mut jobs)
    }
}

impl Jobs {
    fn all(&self) -> impl Iterator<Item = &Job> {
        self.waiting.iter().chain(&self.held)
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Job> {
        self.waiting.iter_mut().chain(&mut self.held)
    }

    fn take_held(&mut self, is_it: impl Fn(&Leased) -> bool) -> Option<Job> {
        let place = self.held.iter().position(|job| is_it(&job.leased))?;
        Some(self.held.remove(place))
    }
}

/// Reschedules this slot at the end of its thread's queue, where other threads can steal it. The slot that it woke runs
/// next on this thread, where no other thread could steal it while a handler blocks.
async fn step_back() {
    let mut has_waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::{
        broker::LeaseToken,
        codec::{CodecName, MessagePack},
        task::{Envelope, TaskId, Timestamp},
    };

    /// A job of one of the server's queues.
    pub(in crate::server) fn job(queue: usize) -> Job {
        let codec = CodecName::of::<MessagePack>();
        let envelope = Arc::new(Envelope::new(TaskId::generate(), "e", codec, Bytes::new()));
        let leased = Leased::new(envelope, LeaseToken(1), Timestamp::default());
        Job {
            leased,
            queue,
            since: Instant::now(),
            held_until: Instant::now(),
            passes: Passes::default(),
        }
    }

    #[test]
    fn a_task_that_waits_for_a_limit_is_leased_and_takes_no_room() {
        let inbox = Inbox::new(1);
        let (one, two, three) = (job(0), job(0), job(0));
        let leases = [&one, &two, &three].map(|job| job.leased.lease());
        for job in [one, two, three] {
            inbox.hold(job).expect("open");
        }
        assert_eq!(inbox.leases(), leases);
        assert_eq!((inbox.load(), inbox.load_of(0)), (0, 3));

        inbox.admit(&leases[0], Passes::default());
        assert_eq!((inbox.load(), inbox.load_of(0)), (1, 3));
        inbox.take_held(&leases[1]).expect("held");
        assert_eq!((inbox.load(), inbox.load_of(0)), (1, 2));
        assert!(inbox.take_held(&leases[1]).is_none());

        assert_eq!(inbox.close().len(), 2, "returned when the inbox closes");
        assert_eq!(inbox.load(), 2, "each counts until it is released");
        assert!(inbox.hold(job(0)).is_err());
    }
}
