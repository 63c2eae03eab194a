//! The slots of a server and what runs in them.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
};

use tokio::{runtime::Handle, sync::Notify, task::AbortHandle, time::Instant};

use crate::{
    broker::{Lease, LeaseToken},
    process::Context,
    sync::Mutex,
    task::{Envelope, Name},
};

/// The slots of a server. A slot runs one task after another.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Mutex<Vec<Arc<Slot>>>,
    /// How many there are. The same as the length of `slots`, without its lock.
    open: AtomicUsize,
    /// Abandoned slots whose handler is still running.
    abandoned: Arc<AtomicUsize>,
    /// Wakes the fetcher when a slot is added.
    opened: Notify,
    /// The application's runtime, where handlers run.
    runtime: OnceLock<Handle>,
}

/// One slot.
#[derive(Debug, Default)]
pub(super) struct Slot {
    running: Mutex<Option<Running>>,
    handler: Mutex<Option<AbortHandle>>,
    is_abandoned: AtomicBool,
    /// Its future has ended, and nothing runs here.
    ended: AtomicBool,
    /// Odd while the handler is being polled.
    polls: AtomicU32,
    abandoned: Arc<AtomicUsize>,
}

/// A running task. Taking this out of its slot is the right to decide the outcome. The slot takes it when the handler
/// returns, or `watch` when it abandons the slot.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) token: LeaseToken,
    /// The task as it was leased.
    pub(super) leased: Arc<Envelope>,
    pub(super) context: Context,
    /// The index of its queue in the server's queues.
    pub(super) queue: usize,
    /// When it was cancelled.
    pub(super) cancelled: Option<Instant>,
}

impl Slot {
    pub(super) fn start(&self, running: Running) {
        *self.running.lock() = Some(running);
    }

    /// Takes out the running task; `None` if it was taken out already because the slot is abandoned.
    pub(super) fn end(&self) -> Option<Running> {
        self.running.lock().take()
    }

    /// Abandons the slot if its task is overdue, and aborts the handler: immediately if it is waiting, otherwise at its
    /// next `await`. Until then it counts as abandoned.
    pub(super) fn abandon_if(
        self: &Arc<Self>,
        overdue: impl FnOnce(&Running) -> bool,
    ) -> Option<Running> {
        let mut running = self.running.lock();
        let abandoned = if running.as_ref().is_some_and(overdue) {
            running.take()
        } else {
            None
        };
        if let Some(running) = &abandoned {
            running.context.abandon();
            self.is_abandoned.store(true, Ordering::SeqCst);
            self.abandoned.fetch_add(1, Ordering::SeqCst);
            self.abort();
        }
        abandoned
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.is_abandoned.load(Ordering::SeqCst)
    }

    pub(super) fn abort(&self) {
        if let Some(handler) = &*self.handler.lock() {
            handler.abort();
        }
    }

    /// Marks the start of a poll. The previous one may have ended in a panic, without its end being marked.
    pub(super) fn start_poll(&self) {
        let polls = self.polls.load(Ordering::Relaxed);
        self.polls
            .store(polls.wrapping_add(1) | 1, Ordering::Relaxed);
    }

    /// Marks the end of a poll.
    pub(super) fn end_poll(&self) {
        let polls = self.polls.load(Ordering::Relaxed);
        self.polls
            .store(polls.wrapping_add(1) & !1, Ordering::Relaxed);
    }

    /// The number of the current poll, if the handler is being polled.
    fn poll(&self) -> Option<u32> {
        let polls = self.polls.load(Ordering::Relaxed);
        (polls % 2 == 1).then_some(polls)
    }
}

/// Held by everything that occupies a slot: its future, and blocking code that the handler has started on other
/// threads.
pub(crate) struct SlotGuard(pub(super) Arc<Slot>);

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::SeqCst);
        if self.0.is_abandoned.load(Ordering::SeqCst) {
            self.0.abandoned.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Slots {
    /// How many tasks can run concurrently.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Makes the fetcher check again how many tasks can run.
    pub(super) fn wake_fetcher(&self) {
        self.opened.notify_one();
    }

    /// Waits for another slot to be opened, or for a [wake-up](Self::wake_fetcher).
    pub(super) async fn opened(&self) {
        self.opened.notified().await;
    }

    /// Sets the runtime of the handlers.
    pub(super) fn run_on(&self, runtime: Handle) {
        // A server runs once.
        let _ = self.runtime.set(runtime);
    }

    /// The runtime of the handlers.
    pub(super) fn runtime(&self) -> Option<&Handle> {
        self.runtime.get()
    }

    /// How many handlers are still running after their slot was abandoned.
    pub(super) fn abandoned(&self) -> usize {
        self.abandoned.load(Ordering::SeqCst)
    }

    /// Adds a slot, whose future `spawn` starts.
    pub(super) fn add(&self, spawn: impl FnOnce(Arc<Slot>) -> AbortHandle) {
        let slot = Arc::new(Slot {
            abandoned: Arc::clone(&self.abandoned),
            ..Slot::default()
        });
        *slot.handler.lock() = Some(spawn(Arc::clone(&slot)));
        let mut slots = self.slots.lock();
        slots.push(slot);
        self.open.store(slots.len(), Ordering::SeqCst);
        self.opened.notify_one();
    }

    /// Abandons the slots whose tasks are overdue, and returns what ran in them.
    pub(super) fn abandon_if(&self, overdue: impl Fn(&Running) -> bool) -> Vec<Running> {
        let mut slots = self.slots.lock();
        let mut abandoned = Vec::new();
        slots.retain(|slot| match slot.abandon_if(&overdue) {
            Some(running) => {
                abandoned.push(running);
                false
            }
            None => true,
        });
        self.open.store(slots.len(), Ordering::SeqCst);
        abandoned
    }

    /// Abandons a slot whose attempt has ended but whose blocking code is still running.
    pub(super) fn abandon(&self, slot: &Arc<Slot>) {
        slot.is_abandoned.store(true, Ordering::SeqCst);
        self.abandoned.fetch_add(1, Ordering::SeqCst);
        let mut slots = self.slots.lock();
        slots.retain(|other| !Arc::ptr_eq(other, slot));
        self.open.store(slots.len(), Ordering::SeqCst);
    }

    /// Removes slots whose future has ended although the server runs, for example after a panic that nothing caught.
    /// Returns what ran in them.
    pub(super) fn remove_ended(&self) -> Vec<Running> {
        let mut slots = self.slots.lock();
        let mut unfinished = Vec::new();
        slots.retain(|slot| {
            let ended = slot.ended.load(Ordering::SeqCst);
            if ended {
                unfinished.extend(slot.end());
            }
            !ended
        });
        self.open.store(slots.len(), Ordering::SeqCst);
        unfinished
    }

    /// How many tasks are running.
    pub(super) fn busy(&self) -> usize {
        self.slots
            .lock()
            .iter()
            .filter(|slot| slot.running.lock().is_some())
            .count()
    }

    /// The polls under way, each with its slot's address and its event.
    pub(super) fn polls(&self) -> Vec<(usize, u32, Name)> {
        let slots = self.slots.lock();
        let in_poll = slots.iter().filter_map(|slot| {
            let poll = slot.poll()?;
            let event = slot.running.lock().as_ref()?.context.event().clone();
            Some((Arc::as_ptr(slot) as usize, poll, event))
        });
        in_poll.collect()
    }

    /// Visits every running task.
    pub(super) fn each(&self, mut look: impl FnMut(&mut Running)) {
        for slot in self.slots.lock().iter() {
            if let Some(running) = &mut *slot.running.lock() {
                look(running);
            }
        }
    }

    /// The leases of all running tasks.
    pub(super) fn leases(&self) -> Vec<Lease> {
        let mut leases = Vec::new();
        self.each(|running| leases.push(running.lease()));
        leases
    }

    /// Aborts all handlers at their next `await`.
    pub(super) fn abort_all(&self) {
        self.slots.lock().iter().for_each(|slot| slot.abort());
    }
}

impl Running {
    pub(super) fn lease(&self) -> Lease {
        Lease {
            task: self.context.task_ref(),
            token: self.token,
        }
    }

    /// Requests the handler to stop.
    pub(super) fn cancel(&mut self) {
        self.context.stop();
        self.cancelled.get_or_insert_with(Instant::now);
    }
}
