//! What each slot is at.

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

/// The slots of a server. A slot runs one task after the other.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Mutex<Vec<Arc<Slot>>>,
    /// How many there are; `slots` has the same number, but is locked.
    open: AtomicUsize,
    /// Slots given up whose handler is still running.
    abandoned: Arc<AtomicUsize>,
    /// Wakes the fetcher when there is a new one.
    opened: Notify,
    /// Where handlers run: the application's runtime.
    runtime: OnceLock<Handle>,
}

/// One slot.
#[derive(Debug, Default)]
pub(super) struct Slot {
    running: Mutex<Option<Running>>,
    handler: Mutex<Option<AbortHandle>>,
    given_up: AtomicBool,
    /// Its future has ended, and nothing runs here.
    ended: AtomicBool,
    /// Odd while the handler is being polled.
    polls: AtomicU32,
    abandoned: Arc<AtomicUsize>,
}

/// A task that is being run. Taking this out of its slot means to decide its outcome: the slot does when the handler is
/// done, or the watch when it is given up.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) token: LeaseToken,
    /// The task as it was leased.
    pub(super) leased: Arc<Envelope>,
    pub(super) context: Context,
    /// Which of the server's queues it is from.
    pub(super) queue: usize,
    /// Since when it is cancelled.
    pub(super) cancelled: Option<Instant>,
}

impl Slot {
    pub(super) fn begin(&self, running: Running) {
        *self.running.lock() = Some(running);
    }

    /// Ends what runs here; `None` if it was given up.
    pub(super) fn end(&self) -> Option<Running> {
        self.running.lock().take()
    }

    /// Ends what runs here if it is due to be given up, and its handler with it: at once if it waits, else at its next
    /// `await`, until when it counts as abandoned.
    pub(super) fn give_up_if(
        self: &Arc<Self>,
        overdue: impl FnOnce(&Running) -> bool,
    ) -> Option<Running> {
        let mut running = self.running.lock();
        let given_up = if running.as_ref().is_some_and(overdue) {
            running.take()
        } else {
            None
        };
        if let Some(running) = &given_up {
            running.context.give_up();
            self.given_up.store(true, Ordering::SeqCst);
            self.abandoned.fetch_add(1, Ordering::SeqCst);
            self.abort();
        }
        given_up
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::SeqCst)
    }

    pub(super) fn abort(&self) {
        if let Some(handler) = &*self.handler.lock() {
            handler.abort();
        }
    }

    /// Notes that a poll of the handler begins. The one before may have ended in a panic, unnoted.
    pub(super) fn begin_poll(&self) {
        let polls = self.polls.load(Ordering::Relaxed);
        self.polls
            .store(polls.wrapping_add(1) | 1, Ordering::Relaxed);
    }

    /// Notes that the poll has ended.
    pub(super) fn end_poll(&self) {
        let polls = self.polls.load(Ordering::Relaxed);
        self.polls
            .store(polls.wrapping_add(1) & !1, Ordering::Relaxed);
    }

    /// The number of the poll that the handler is in, if it is in one.
    fn poll(&self) -> Option<u32> {
        let polls = self.polls.load(Ordering::Relaxed);
        (polls % 2 == 1).then_some(polls)
    }
}

/// Held by all that occupies a slot: its future, and code that the handler has started on threads of its own.
pub(crate) struct SlotGuard(pub(super) Arc<Slot>);

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::SeqCst);
        if self.0.given_up.load(Ordering::SeqCst) {
            self.0.abandoned.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Slots {
    /// How many tasks can run at once.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Lets the fetcher look again how many tasks can run.
    pub(super) fn wake_fetcher(&self) {
        self.opened.notify_one();
    }

    /// Waits for another slot to be opened, or for a [wake-up](Self::wake_fetcher).
    pub(super) async fn opened(&self) {
        self.opened.notified().await;
    }

    /// Says where handlers run.
    pub(super) fn run_on(&self, runtime: Handle) {
        // A server runs once.
        let _ = self.runtime.set(runtime);
    }

    /// Where handlers run.
    pub(super) fn runtime(&self) -> Option<&Handle> {
        self.runtime.get()
    }

    /// How many handlers are still running though their slot was given up.
    pub(super) fn abandoned(&self) -> usize {
        self.abandoned.load(Ordering::SeqCst)
    }

    /// Adds a slot, run by what `spawn` starts.
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

    /// Gives up what is overdue, and the slots it runs in.
    pub(super) fn give_up(&self, overdue: impl Fn(&Running) -> bool) -> Vec<Running> {
        let mut slots = self.slots.lock();
        let mut given_up = Vec::new();
        slots.retain(|slot| match slot.give_up_if(&overdue) {
            Some(running) => {
                given_up.push(running);
                false
            }
            None => true,
        });
        self.open.store(slots.len(), Ordering::SeqCst);
        given_up
    }

    /// Takes a slot out whose attempt has ended while blocking code that it left behind runs on.
    pub(super) fn abandon(&self, slot: &Arc<Slot>) {
        slot.given_up.store(true, Ordering::SeqCst);
        self.abandoned.fetch_add(1, Ordering::SeqCst);
        let mut slots = self.slots.lock();
        slots.retain(|other| !Arc::ptr_eq(other, slot));
        self.open.store(slots.len(), Ordering::SeqCst);
    }

    /// Removes slots whose future has ended though the server runs, as after a panic outside of every catch, with what
    /// they ran.
    pub(super) fn remove_ended(&self) -> Vec<Running> {
        let mut slots = self.slots.lock();
        let mut left_over = Vec::new();
        slots.retain(|slot| {
            let ended = slot.ended.load(Ordering::SeqCst);
            if ended {
                left_over.extend(slot.end());
            }
            !ended
        });
        self.open.store(slots.len(), Ordering::SeqCst);
        left_over
    }

    /// How many tasks run.
    pub(super) fn busy(&self) -> usize {
        self.slots
            .lock()
            .iter()
            .filter(|slot| slot.running.lock().is_some())
            .count()
    }

    /// The polls that handlers are in now, each with its slot's address and event.
    pub(super) fn polls(&self) -> Vec<(usize, u32, Name)> {
        let slots = self.slots.lock();
        let in_poll = slots.iter().filter_map(|slot| {
            let poll = slot.poll()?;
            let event = slot.running.lock().as_ref()?.context.event().clone();
            Some((Arc::as_ptr(slot) as usize, poll, event))
        });
        in_poll.collect()
    }

    /// Looks at everything that runs.
    pub(super) fn each(&self, mut look: impl FnMut(&mut Running)) {
        for slot in self.slots.lock().iter() {
            if let Some(running) = &mut *slot.running.lock() {
                look(running);
            }
        }
    }

    /// The leases of everything that runs.
    pub(super) fn leases(&self) -> Vec<Lease> {
        let mut leases = Vec::new();
        self.each(|running| leases.push(running.lease()));
        leases
    }

    /// Ends all handlers at their next `await`, whatever they are at.
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

    /// Tells the handler to stop.
    pub(super) fn cancel(&mut self) {
        self.context.stop();
        self.cancelled.get_or_insert_with(Instant::now);
    }
}
