//! Metrics of servers.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use metrics::{counter, gauge};

static SLOTS: AtomicUsize = AtomicUsize::new(0);
static ABANDONED: AtomicUsize = AtomicUsize::new(0);

/// The contribution of one server to the figures of all servers in this process.
#[derive(Debug, Default)]
pub(crate) struct ServerMeter {
    slots: AtomicUsize,
    abandoned: AtomicUsize,
}

impl ServerMeter {
    pub(crate) fn set(&self, slots: usize, abandoned: usize) {
        let slots = replace(&SLOTS, &self.slots, slots);
        let abandoned = replace(&ABANDONED, &self.abandoned, abandoned);
        gauge!("asynqueue_server_slots").set(slots as f64);
        gauge!("asynqueue_server_slots_abandoned").set(abandoned as f64);
    }
}

impl Drop for ServerMeter {
    fn drop(&mut self) {
        self.set(0, 0);
    }
}

/// Replaces a part of a total. Returns the total.
fn replace(total: &AtomicUsize, part: &AtomicUsize, value: usize) -> usize {
    let before = part.swap(value, Relaxed);
    let change = value.wrapping_sub(before);
    total.fetch_add(change, Relaxed).wrapping_add(change)
}

/// Counts declarations that the broker had lost and that were restored.
pub(crate) fn restored(kind: &'static str, count: usize) {
    counter!("asynqueue_declarations_restored_total", "kind" => kind).increment(count as u64);
}

/// Counts a failed call to the broker.
pub(crate) fn broker_failed(call: &'static str) {
    counter!("asynqueue_broker_failures_total", "call" => call).increment(1);
}
