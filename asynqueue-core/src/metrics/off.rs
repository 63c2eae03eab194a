//! Replaces the metrics if the feature `metrics` is off: nothing is recorded.

use crate::{
    broker::{Settled, Settlement, Trimmed},
    outbox::OutboxSize,
    task::{Envelope, Name},
};

#[derive(Clone, Copy)]
pub(crate) enum EnqueueResult {
    Accepted,
    Duplicate,
    Refused,
    Failed,
}

pub(crate) struct Enqueueing;

impl Enqueueing {
    pub(crate) fn of(_: &Name, _: &Name) -> Self {
        Self
    }

    pub(crate) fn add(&self, _: EnqueueResult, _: usize) {}
}

pub(crate) fn enqueued(_: &Name, _: &Name, _: EnqueueResult) {}

pub(crate) fn settled<'a>(
    _: impl Iterator<Item = (&'a Settlement, Settled)>,
    _: impl Fn(&Name) -> bool,
) {
}

pub(crate) fn reclaimed(_: &Envelope, _: bool) {}

pub(crate) fn lease_lost(_: &Envelope, _: bool) {}

pub(crate) fn unhandled(_: &Name) {}

pub(crate) fn aggregated(_: &Name, _: &Name, _: usize) {}

pub(crate) fn trimmed(_: &Name, _: &Trimmed) {}

#[derive(Debug, Default)]
pub(crate) struct ServerMeter {}

impl ServerMeter {
    pub(crate) fn set(&self, _: usize, _: usize) {}
}

pub(crate) fn restored(_: &'static str, _: usize) {}

pub(crate) fn broker_failed(_: &'static str) {}

pub(crate) fn relayed(_: &Name, _: &'static str, _: usize) {}

pub(crate) fn outbox_failed(_: &Name) {}

pub(crate) fn outbox_size(_: &Name, _: OutboxSize) {}
