//! A simulated process: its tasks run on the thread of the simulation, and are frozen and killed together.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::{
    runtime::Handle,
    time::{Instant, Sleep, sleep_until},
};

use crate::sync::Mutex;

thread_local! {
    /// The node whose task this thread polls.
    static CURRENT: RefCell<Option<Arc<Node>>> = const { RefCell::new(None) };
    /// How long the task that this thread polls blocks its own thread.
    static BLOCKS: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// One life of a process.
#[derive(Debug)]
pub(crate) struct Node {
    place: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    /// The waiting tasks, by their numbers.
    wakers: BTreeMap<u64, Waker>,
    tasks: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Runs,
    /// As by SIGSTOP.
    Frozen,
    /// As by SIGKILL.
    Dead,
}

impl Node {
    /// The node at this index of its fleet.
    pub(crate) fn new(place: usize) -> Arc<Self> {
        let state = Mutex::default();
        Arc::new(Self { place, state })
    }

    /// Stops its tasks until it is [thawed](Self::thaw). Messages that it has sent are still delivered.
    pub(crate) fn freeze(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Runs {
            state.phase = Phase::Frozen;
        }
    }

    /// Resumes its tasks, and wakes those that should have woken in the meantime.
    pub(crate) fn thaw(&self) {
        self.change(Phase::Frozen, Phase::Runs);
    }

    /// Drops all its tasks at their current point.
    pub(crate) fn kill(&self) {
        self.change(Phase::Frozen, Phase::Runs);
        self.change(Phase::Runs, Phase::Dead);
    }

    fn change(&self, from: Phase, to: Phase) {
        let wakers = {
            let mut state = self.state.lock();
            if state.phase != from {
                return;
            }
            state.phase = to;
            std::mem::take(&mut state.wakers)
        };
        wakers.into_values().for_each(Waker::wake);
    }

    /// Runs a task on this node.
    pub(crate) fn host<F: Future + Send + 'static>(self: &Arc<Self>, task: F) -> Hosted<F> {
        let mut state = self.state.lock();
        state.tasks += 1;
        Hosted {
            host: Some((Arc::clone(self), state.tasks)),
            task: Some(Box::pin(task)),
            blocks: None,
        }
    }
}

/// The index of the node whose task this thread runs.
pub(crate) fn current() -> Option<usize> {
    CURRENT.with_borrow(|node| node.as_ref().map(|node| node.place))
}

/// A task to be spawned. It stays on the node that spawns it.
pub(crate) fn here<F: Future + Send + 'static>(task: F) -> Hosted<F> {
    match CURRENT.with_borrow(Clone::clone) {
        Some(node) => node.host(task),
        None => Hosted {
            host: None,
            task: Some(Box::pin(task)),
            blocks: None,
        },
    }
}

/// A task and its node.
#[derive(Debug)]
pub(crate) struct Hosted<F: Send + 'static> {
    host: Option<(Arc<Node>, u64)>,
    /// `None` once its node is dead.
    task: Option<Pin<Box<F>>>,
    /// Ends when it stops blocking its thread.
    blocks: Option<Pin<Box<Sleep>>>,
}

/// Blocks the thread of the calling task until `end`: it cannot be dropped, and is polled again only after that.
pub(crate) async fn block_until(end: Instant) {
    BLOCKS.set(Some(end));
    tokio::task::yield_now().await;
}

impl<F: Future + Send + 'static> Future for Hosted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        if let Some(blocks) = &mut this.blocks
            && blocks.as_mut().poll(cx).is_pending()
        {
            return Poll::Pending;
        }
        this.blocks = None;
        let Some((node, number)) = &this.host else {
            return poll(&mut this.task, cx);
        };
        let phase = {
            let mut state = node.state.lock();
            // Kept while it runs, too: it must be woken by the node's death.
            if state.phase != Phase::Dead {
                state.wakers.insert(*number, cx.waker().clone());
            }
            state.phase
        };
        match phase {
            Phase::Runs => {
                let polled = {
                    let _current = Current::set(node);
                    poll(&mut this.task, cx)
                };
                if let Some(end) = BLOCKS.take() {
                    this.blocks = Some(Box::pin(sleep_until(end)));
                    // It registers itself with the timer.
                    cx.waker().wake_by_ref();
                }
                polled
            }
            Phase::Frozen => Poll::Pending,
            Phase::Dead => {
                let _current = Current::set(node);
                this.task = None;
                Poll::Pending
            }
        }
    }
}

fn poll<F: Future>(task: &mut Option<Pin<Box<F>>>, cx: &mut Context<'_>) -> Poll<F::Output> {
    match task {
        Some(task) => task.as_mut().poll(cx),
        None => Poll::Pending,
    }
}

impl<F: Send + 'static> Drop for Hosted<F> {
    fn drop(&mut self) {
        if let Some(blocks) = self.blocks.take()
            && let Some(task) = self.task.take()
            && let Ok(runtime) = Handle::try_current()
        {
            let node = self.host.as_ref().map(|(node, _)| Arc::clone(node));
            // A task that blocks its thread is dropped at its next `await`.
            runtime.spawn(async move {
                blocks.await;
                let _current = node.as_ref().map(Current::set);
                drop(task);
            });
        }
        if let Some((node, number)) = &self.host {
            node.state.lock().wakers.remove(number);
            let _current = Current::set(node);
            self.task = None;
        }
    }
}

/// Restores the previous current node.
struct Current(Option<Arc<Node>>);

impl Current {
    fn set(node: &Arc<Node>) -> Self {
        Self(CURRENT.replace(Some(Arc::clone(node))))
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}
