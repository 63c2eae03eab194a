//! Leased tasks on their way to a slot.

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

/// No lease lasts longer here.
const FAR_AWAY: Duration = Duration::from_secs(365 * 24 * 3600);

/// A leased task, and which of the server's queues it is from.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) leased: Leased,
    pub(super) queue: usize,
    /// When it came in.
    pub(super) since: Instant,
    /// Until when no other server can have reclaimed it. Counted from before its lease was asked for or last extended, since an
    /// answer can be late and this process can be paused.
    pub(super) held_until: Instant,
    /// What admits it through the limits of its process.
    pub(super) passes: Passes,
}

impl Job {
    /// Until when a lease holds that was asked for at a time, or extended.
    pub(super) fn held_until(asked: Instant, lease: Duration) -> Instant {
        asked + lease.min(FAR_AWAY)
    }

    /// With what admits it through the limits of its process.
    pub(super) fn let_in(self, passes: Passes) -> Self {
        Self { passes, ..self }
    }
}

/// Holds what is leased and has not started, and counts what is here in all.
#[derive(Debug)]
pub(super) struct Inbox {
    jobs: Mutex<Jobs>,
    /// Wakes a slot.
    available: Notify,
    /// Leased and not finished, here or in a slot.
    load: AtomicUsize,
    load_of_queue: Vec<AtomicUsize>,
    /// How many tasks have left, by which a queue at its limit has room again.
    left: AtomicUsize,
    /// When a finishing task brings the load down to this, the fetcher is woken.
    low_water: AtomicUsize,
    room: Notify,
}

#[derive(Debug, Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    /// What waits for a limit, and for no slot yet. Counts for its queue, and not for the load.
    held: Vec<Job>,
    /// A slot was woken and has not come yet. One at a time is enough, since each wakes the next: so a few busy slots
    /// take all quick tasks, and the others sleep on.
    waking: bool,
    closed: bool,
}

/// What a slot that asks for a job gets.
enum Next {
    Job(Job),
    /// Another slot was woken, and has to get off this thread first.
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

    /// Takes jobs in; gives them back if it is closed.
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

    /// Keeps a job that waits for a limit; gives it back if this is closed.
    pub(super) fn hold(&self, job: Job) -> Result<(), Job> {
        let mut jobs = self.jobs.lock();
        if jobs.closed {
            return Err(job);
        }
        self.load_of_queue[job.queue].fetch_add(1, SeqCst);
        jobs.held.push(job);
        Ok(())
    }

    /// Lets a job that waited for a limit proceed to a slot, if it is still here.
    pub(super) fn let_in(&self, lease: &Lease, passes: Passes) {
        let mut jobs = self.jobs.lock();
        if let Some(mut job) = jobs.take_held(|leased| leased.lease() == *lease) {
            self.load.fetch_add(1, SeqCst);
            job.since = Instant::now();
            jobs.waiting.push_back(job.let_in(passes));
            self.wake_one(&mut jobs);
        }
    }

    /// Takes out a job that waits for a limit, if it is still here.
    pub(super) fn take_held(&self, lease: &Lease) -> Option<Job> {
        let held = (self.jobs.lock()).take_held(|leased| leased.lease() == *lease)?;
        self.leave(held.queue, self.load());
        Some(held)
    }

    /// The next job, once there is one; `None` when the inbox is closed.
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
                    // A wake-up from before this line has left a permit.
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
                // Pass it on: the others have to see it too.
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

    /// Wakes another slot if tasks wait, whether or not one was woken: that one may be next in line on a thread which a
    /// handler blocks, where tokio lets no other thread take it from.
    pub(super) fn nudge(&self) {
        if !self.jobs.lock().waiting.is_empty() {
            self.available.notify_one();
        }
    }

    /// Counts a task in that does not come through here.
    #[cfg(feature = "testing")]
    pub(super) fn began(&self, queue: usize) {
        self.load_of_queue[queue].fetch_add(1, SeqCst);
        self.load.fetch_add(1, SeqCst);
    }

    /// Counts a task out that has been handed to the outbox.
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
        // This store and the load below are ordered against their twins in `finished`: of two that cross, at least
        // one sees the other.
        self.low_water.store(load, SeqCst);
        while self.load() > load {
            self.room.notified().await;
        }
    }

    /// How many tasks have left so far.
    pub(super) fn left(&self) -> usize {
        self.left.load(SeqCst)
    }

    /// Waits until more tasks have left than had before.
    pub(super) async fn left_more_than(&self, before: usize) {
        // Whatever the load: as above, of a store and a load that cross one sees the other.
        self.low_water.store(usize::MAX, SeqCst);
        while self.left() == before {
            self.room.notified().await;
        }
    }

    /// The leases of what waits here.
    pub(super) fn leases(&self) -> Vec<Lease> {
        self.jobs
            .lock()
            .all()
            .map(|job| job.leased.lease())
            .collect()
    }

    /// Notes that leases of what waits here were extended.
    pub(super) fn extended<'a>(
        &self,
        leases: impl Iterator<Item = &'a Lease>,
        held_until: Instant,
    ) {
        let mut jobs = self.jobs.lock();
        if jobs.all().next().is_none() {
            // Most leases are of what runs.
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

    /// Takes out what has waited for a slot for longer than `limit`. It still counts.
    pub(super) fn take_hoarded(&self, limit: Duration, now: Instant) -> Vec<Job> {
        let mut jobs = self.jobs.lock();
        // The oldest are in front.
        let is_old = |job: &&Job| now.saturating_duration_since(job.since) > limit;
        let count = jobs.waiting.iter().take_while(is_old).count();
        jobs.waiting.drain(..count).collect()
    }

    /// Takes out what has not started. It still counts.
    pub(super) fn take_waiting(&self) -> Vec<Job> {
        self.drain(&mut self.jobs.lock())
    }

    fn drain(&self, jobs: &mut Jobs) -> Vec<Job> {
        let held = std::mem::take(&mut jobs.held);
        self.load.fetch_add(held.len(), SeqCst);
        jobs.waiting.drain(..).chain(held).collect()
    }

    /// Takes out a task that has not started. It still counts.
    pub(super) fn remove(&self, is_it: impl Fn(&Leased) -> bool) -> Option<Job> {
        let mut jobs = self.jobs.lock();
        if let Some(place) = jobs.waiting.iter().position(|job| is_it(&job.leased)) {
            return jobs.waiting.remove(place);
        }
        let held = jobs.take_held(is_it)?;
        self.load.fetch_add(1, SeqCst);
        Some(held)
    }

    /// Lets slots go home, takes nothing more, and hands out what has not started.
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

/// Goes to the end of this thread's queue, where other threads find it. What it has woken runs next here, and no other
/// thread could take that while a handler blocks this one.
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
    fn what_waits_for_a_limit_is_leased_and_takes_no_room() {
        let inbox = Inbox::new(1);
        let (one, two, three) = (job(0), job(0), job(0));
        let leases = [&one, &two, &three].map(|job| job.leased.lease());
        for job in [one, two, three] {
            inbox.hold(job).expect("open");
        }
        assert_eq!(inbox.leases(), leases);
        assert_eq!((inbox.load(), inbox.load_of(0)), (0, 3));

        inbox.let_in(&leases[0], Passes::default());
        assert_eq!((inbox.load(), inbox.load_of(0)), (1, 3));
        inbox.take_held(&leases[1]).expect("held");
        assert_eq!((inbox.load(), inbox.load_of(0)), (1, 2));
        assert!(inbox.take_held(&leases[1]).is_none());

        assert_eq!(inbox.close().len(), 2, "given back when it stops");
        assert_eq!(inbox.load(), 2, "each counts until it is given back");
        assert!(inbox.hold(job(0)).is_err());
    }
}
