//! What distinguishes a task now from its earlier and later versions.

use std::hash::{DefaultHasher, Hash, Hasher};

use asynqueue_core::task::{Envelope, TaskState};

/// A task in a state, with what clients have written into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Version {
    pub(super) content: Content,
    state: &'static str,
}

/// What clients have written into a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Content(u64);

impl Version {
    pub(super) fn of(state: TaskState, envelope: &Envelope) -> Self {
        Self {
            content: Content::of(envelope),
            state: state.as_str(),
        }
    }

    pub(super) fn pending(envelope: &Envelope) -> Self {
        Self::of(TaskState::Pending, envelope)
    }
}

impl Content {
    pub(super) fn of(envelope: &Envelope) -> Self {
        let mut hasher = DefaultHasher::new();
        let last = envelope.last_failure().map(|failure| &failure.message);
        (&envelope.id, &envelope.payload).hash(&mut hasher);
        (envelope.attempts, envelope.failures().len(), last).hash(&mut hasher);
        Self(hasher.finish())
    }
}
