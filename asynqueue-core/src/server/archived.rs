//! What follows the archiving of a task: a log line, and the hooks, which run independently of everything else.

use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{runtime::Handle, sync::Notify, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::{
    ambient,
    broker::{Outcome, Settled, Settlement},
    layer::{ArchiveHooks, Archived, discard},
    sync::Mutex,
    task::{Envelope, Failure, FailureKind},
};

/// The maximum number of tasks whose hooks run concurrently.
const MAX_AT_ONCE: usize = 16;

/// The maximum number of tasks waiting for their hooks.
const MAX_WAITING: usize = 10_000;

/// The maximum total size of their payloads, in bytes.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// The time limit of one hook for one task.
const LONGEST_CALL: Duration = Duration::from_secs(30);

/// Archived tasks whose hooks have not been called yet.
#[derive(Debug, Default)]
pub(super) struct HookCalls {
    waiting: Mutex<Waiting>,
    filled: Notify,
    /// How many were skipped since the queue was last empty.
    left_out: AtomicUsize,
    /// Cancelled when no more tasks come.
    closed: CancellationToken,
}

#[derive(Debug, Default)]
struct Waiting {
    calls: VecDeque<HookCall>,
    /// The total size of the payloads.
    bytes: usize,
}

/// A task whose hooks have to be called.
#[derive(Debug)]
struct HookCall {
    hooks: ArchiveHooks,
    task: Arc<Envelope>,
    /// The reason has to be read from the broker.
    cancelled: bool,
}

impl HookCalls {
    fn push(&self, call: HookCall) {
        if self.waiting.lock().push(call) {
            self.filled.notify_one();
        } else if self.left_out.fetch_add(1, SeqCst) == 0 {
            tracing::error!(
                waiting = self.len(),
                "hooks are too slow; `on_archived` is not called for further tasks until they catch up"
            );
        }
    }

    fn pop(&self) -> Option<HookCall> {
        let call = self.waiting.lock().pop();
        if call.is_none() {
            let tasks = self.left_out.swap(0, SeqCst);
            if tasks > 0 {
                tracing::error!(tasks, "`on_archived` was not called for these tasks");
            }
        }
        call
    }

    fn len(&self) -> usize {
        self.waiting.lock().calls.len()
    }
}

impl Waiting {
    /// Adds a call, unless there is no room. Returns whether it did.
    fn push(&mut self, call: HookCall) -> bool {
        let bytes = self.bytes.saturating_add(call.task.payload.len());
        let has_room = self.calls.len() < MAX_WAITING && bytes <= MAX_WAITING_BYTES;
        if has_room || self.calls.is_empty() {
            self.bytes = bytes;
            self.calls.push_back(call);
            return true;
        }
        false
    }

    fn pop(&mut self) -> Option<HookCall> {
        let call = self.calls.pop_front()?;
        self.bytes -= call.task.payload.len();
        Some(call)
    }
}

impl Shared {
    /// Handles the tasks that the broker has archived, according to its response.
    pub(super) fn note_archived(&self, batch: &[Settlement], settled: &[Settled]) {
        for (settlement, settled) in batch.iter().zip(settled) {
            match (settled, &settlement.outcome) {
                (Settled::Cancelled, _) => self.archived(&settlement.envelope, true),
                (Settled::Recorded, Outcome::Archive) => self.archived(&settlement.envelope, false),
                _ => {}
            }
        }
    }

    /// Handles a task that the broker has archived.
    pub(super) fn archived(&self, task: &Arc<Envelope>, cancelled: bool) {
        if cancelled {
            self.log_cancelled(task);
        } else {
            self.log_archived(task);
        }
        let hooks = self.registry.hooks_of(task);
        if !hooks.is_empty() {
            self.hook_calls.push(HookCall {
                hooks: hooks.clone(),
                task: Arc::clone(task),
                cancelled,
            });
        }
    }

    /// Calls hooks until no more tasks come and all calls are done.
    pub(super) async fn call_hooks(self: Arc<Self>) {
        let mut calls = JoinSet::new();
        let runtime = Handle::current();
        let cut_off = CancellationToken::new();
        let _cut_off_on_drop = cut_off.clone().drop_guard();
        loop {
            while calls.len() < MAX_AT_ONCE
                && let Some(call) = self.hook_calls.pop()
            {
                let (shared, runtime) = (Arc::clone(&self), runtime.clone());
                let cut_off = cut_off.clone();
                if ambient::is_simulated() {
                    let call = async move { shared.call_hooks_of(call).await };
                    calls.spawn(ambient::here(call));
                    continue;
                }
                // On a separate thread, so that a hook that blocks delays nothing else.
                calls.spawn_blocking(move || {
                    let call = shared.call_hooks_of(call);
                    runtime.block_on(cut_off.run_until_cancelled(call));
                });
            }
            let closed = &self.hook_calls.closed;
            if calls.is_empty() && closed.is_cancelled() {
                return;
            }
            tokio::select! {
                () = self.hook_calls.filled.notified() => {}
                Some(_) = calls.join_next() => {}
                () = closed.cancelled(), if !closed.is_cancelled() => {}
            }
        }
    }

    /// Calls the waiting hooks in the foreground.
    #[cfg(feature = "testing")]
    pub(super) async fn call_waiting_hooks(&self) {
        while let Some(call) = self.hook_calls.pop() {
            self.call_hooks_of(call).await;
        }
    }

    async fn call_hooks_of(&self, call: HookCall) {
        let archived = match call.task.last_failure() {
            Some(failure) if !call.cancelled => {
                Archived::new(Arc::clone(&call.task), failure.clone())
            }
            _ => self.cancelled(call.task).await,
        };
        for hook in call.hooks.iter() {
            let called = AssertUnwindSafe(async { hook.call(&archived).await }).catch_unwind();
            let task = archived.task_ref();
            match timeout(LONGEST_CALL, called).await {
                Ok(Ok(())) => {}
                Ok(Err(payload)) => {
                    discard(payload);
                    tracing::error!(%task, "a hook panicked in `on_archived`");
                }
                Err(_) => tracing::error!(%task, limit = ?LONGEST_CALL,
                    "a hook took too long in `on_archived`; the call is abandoned"),
            }
        }
    }

    /// A cancelled task as the broker stores it, with the reason; without one if the task has already moved on.
    async fn cancelled(&self, task: Arc<Envelope>) -> Archived {
        let tasks = [task.task_ref()];
        let found = timeout(LONGEST_CALL, self.broker.tasks(&tasks)).await;
        let found = found
            .ok()
            .and_then(Result::ok)
            .and_then(|mut found| found.pop()?);
        if let Some(info) = found
            && let Some(failure) = info.envelope.last_failure()
            && failure.kind == FailureKind::Cancelled
        {
            let failure = failure.clone();
            return Archived::new(info.envelope, failure);
        }
        let (now, kind) = (self.broker.now(), FailureKind::Cancelled);
        let failure = Failure::new(task.attempts, now, kind, "cancelled");
        Archived::new(task, failure)
    }

    /// Lets [`call_hooks`](Self::call_hooks) finish.
    pub(super) fn close_hooks(&self) {
        self.hook_calls.closed.cancel();
    }

    /// Logs how many hooks were not called.
    pub(super) fn note_uncalled_hooks(&self) {
        let tasks = self.hook_calls.len();
        if tasks > 0 {
            tracing::error!(
                tasks,
                "shutdown cut off the hooks; `on_archived` is not called for these tasks"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        codec::{CodecName, MessagePack},
        task::TaskId,
    };

    fn call(bytes: usize) -> HookCall {
        let codec = CodecName::of::<MessagePack>();
        let payload = Bytes::from(vec![0; bytes]);
        HookCall {
            hooks: ArchiveHooks::default(),
            task: Arc::new(Envelope::new(TaskId::generate(), "e", codec, payload)),
            cancelled: false,
        }
    }

    #[test]
    fn waiting_calls_are_bounded_in_number() {
        let calls = HookCalls::default();
        (0..MAX_WAITING + 2).for_each(|_| calls.push(call(0)));
        assert_eq!((calls.len(), calls.left_out.load(SeqCst)), (MAX_WAITING, 2));
        assert!(calls.pop().is_some());
        calls.push(call(0));
        assert_eq!(calls.left_out.load(SeqCst), 2);
        while calls.pop().is_some() {}
        assert_eq!(calls.left_out.load(SeqCst), 0);
    }

    #[test]
    fn waiting_calls_are_bounded_in_bytes_but_one_always_fits() {
        let calls = HookCalls::default();
        calls.push(call(2 * MAX_WAITING_BYTES));
        calls.push(call(1));
        assert_eq!((calls.len(), calls.left_out.load(SeqCst)), (1, 1));
        assert!(calls.pop().is_some());
        (0..3).for_each(|_| calls.push(call(MAX_WAITING_BYTES / 2)));
        assert_eq!((calls.len(), calls.left_out.load(SeqCst)), (2, 2));
    }
}
