//! Metrics of relays.

use metrics::{counter, gauge};

use crate::{outbox::OutboxSize, task::Name};

/// Counts entries of an outbox whose outcome is recorded.
pub(crate) fn relayed(outbox: &Name, result: &'static str, entries: usize) {
    let labels = [("outbox", outbox.to_string()), ("result", result.into())];
    counter!("asynqueue_outbox_relayed_total", &labels).increment(entries as u64);
}

/// Counts a failed call to the database of an outbox.
pub(crate) fn outbox_failed(outbox: &Name) {
    counter!("asynqueue_outbox_errors_total", "outbox" => outbox.to_string()).increment(1);
}

/// Sets the figures of an outbox. Only the relay that has the turn does so; the others have zeros.
pub(crate) fn outbox_size(outbox: &Name, size: OutboxSize) {
    let age = size
        .oldest
        .map_or(0.0, |at| size.now.since(at).as_secs_f64());
    let entries = [("waiting", size.waiting), ("failed", size.failed)];
    for (state, count) in entries {
        let labels = [("outbox", outbox.to_string()), ("state", state.into())];
        gauge!("asynqueue_outbox_entries", &labels).set(count as f64);
    }
    gauge!("asynqueue_outbox_oldest_seconds", "outbox" => outbox.to_string()).set(age);
}
