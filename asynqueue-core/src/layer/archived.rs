//! Archived tasks, and which hooks are called for them.
//!
//! A task may be archived without an attempt, and then nothing passes through the layers. So each handler carries the
//! hooks around it.

use std::{cell::RefCell, fmt, future::Future, pin::Pin, sync::Arc};

use super::Hook;
use crate::task::{Envelope, Failure, Name, TaskId, TaskRef};

/// An archived task, passed to [`Hook::on_archived`].
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

    /// The queue whose archive holds the task.
    pub fn queue(&self) -> &Name {
        &self.envelope.queue
    }

    /// The task's event.
    pub fn event(&self) -> &Name {
        &self.envelope.event
    }

    /// A reference to the task, for example to [run it again](crate::broker::Control::run_now).
    pub fn task_ref(&self) -> TaskRef {
        self.envelope.task_ref()
    }

    /// The task, with its payload, headers and last failures.
    pub fn envelope(&self) -> &Arc<Envelope> {
        &self.envelope
    }

    /// Why the task was archived.
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

/// The hooks around a handler, from the inside out. An empty set costs nothing.
#[derive(Clone, Default)]
pub(crate) struct ArchiveHooks(Option<Arc<[Arc<dyn ArchiveHook>]>>);

impl ArchiveHooks {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<dyn ArchiveHook>> {
        self.0.iter().flat_map(|hooks| hooks.iter())
    }

    /// Applies layers with `wrap`. Returns the result, and these hooks followed by those of the layers.
    pub(super) fn with_hooks_of<R>(&self, wrap: impl FnOnce() -> R) -> (R, Self) {
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
    /// Collects the hooks of the layers being applied. A layer may be part of a foreign stack whose services hide what
    /// they wrap, but one call applies the complete stack on one thread.
    static APPLIED: RefCell<Option<Vec<Arc<dyn ArchiveHook>>>> = const { RefCell::new(None) };
}

/// Records that a layer with this hook is being applied.
pub(super) fn applied(hook: Arc<dyn ArchiveHook>) {
    APPLIED.with_borrow_mut(|applied| {
        if let Some(applied) = applied
            && !applied.iter().any(|known| Arc::ptr_eq(known, &hook))
        {
            applied.push(hook);
        }
    });
}
