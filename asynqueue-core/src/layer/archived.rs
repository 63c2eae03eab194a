//! Tasks that end in the archive, and which hooks are called for them.
//!
//! A task may be archived without an attempt, so nothing passes through the layers. Each process therefore carries the
//! hooks that are around it.

use std::{cell::RefCell, fmt, future::Future, pin::Pin, sync::Arc};

use super::Hook;
use crate::task::{Envelope, Failure, Name, TaskId, TaskRef};

/// A task that has been archived, for [`Hook::on_archived`].
#[derive(Clone, Debug)]
pub struct Archived {
    envelope: Arc<Envelope>,
    failure: Failure,
}

impl Archived {
    pub(crate) fn new(envelope: Arc<Envelope>, failure: Failure) -> Self {
        Self { envelope, failure }
    }

    /// The task's id.
    pub fn id(&self) -> &TaskId {
        &self.envelope.id
    }

    /// The queue whose archive it is in.
    pub fn queue(&self) -> &Name {
        &self.envelope.queue
    }

    /// The event.
    pub fn event(&self) -> &Name {
        &self.envelope.event
    }

    /// Points at this task, as to [run it again](crate::broker::Control::run_now).
    pub fn task_ref(&self) -> TaskRef {
        self.envelope.task_ref()
    }

    /// The task, with its payload, headers and last failures.
    pub fn envelope(&self) -> &Arc<Envelope> {
        &self.envelope
    }

    /// Why it was archived.
    pub fn failure(&self) -> &Failure {
        &self.failure
    }
}

/// The part of a [`Hook`] that needs no attempt.
pub(crate) trait ArchiveHook: Send + Sync {
    fn call<'a>(&'a self, task: &'a Archived) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

impl<H: Hook> ArchiveHook for H {
    fn call<'a>(&'a self, task: &'a Archived) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.on_archived(task))
    }
}

/// The hooks around a process, from the inside out. Free where there are none.
#[derive(Clone, Default)]
pub(crate) struct ArchiveHooks(Option<Arc<[Arc<dyn ArchiveHook>]>>);

impl ArchiveHooks {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<dyn ArchiveHook>> {
        self.0.iter().flat_map(|hooks| hooks.iter())
    }

    /// These hooks, and around them those of the layers that `wrap` applies.
    pub(super) fn and_those_of<R>(&self, wrap: impl FnOnce() -> R) -> (R, Self) {
        let outer = APPLIED.replace(Some(Vec::new()));
        let wrapped = wrap();
        let applied = APPLIED.replace(outer).unwrap_or_default();
        if applied.is_empty() {
            return (wrapped, self.clone());
        }
        let hooks = self.iter().cloned().chain(applied).collect();
        (wrapped, Self(Some(hooks)))
    }
}

impl fmt::Debug for ArchiveHooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} hooks", self.iter().count())
    }
}

thread_local! {
    /// The hooks of the layers that are being applied. A layer may be part of a stack of foreign ones, whose services
    /// hide what they wrap: but all of them are applied by one call, on one thread.
    static APPLIED: RefCell<Option<Vec<Arc<dyn ArchiveHook>>>> = const { RefCell::new(None) };
}

/// Notes that a layer with this hook is applied.
pub(super) fn applied(hook: Arc<dyn ArchiveHook>) {
    APPLIED.with_borrow_mut(|applied| {
        if let Some(applied) = applied
            && !applied.iter().any(|known| Arc::ptr_eq(known, &hook))
        {
            applied.push(hook);
        }
    });
}
