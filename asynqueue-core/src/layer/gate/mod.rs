//! Where tasks wait for a limit: before their attempt starts, so that neither a slot nor a timeout is spent on it.
//!
//! A server passes a task through the gates of its process right after the lease. A task that may start soon waits at
//! the gate. All others go back to the broker, each with its [place](crate::task::Envelope::place) in the line and for about
//! as long as it takes until its turn. The gate keeps two numbers of the line, however long it is: the place that was
//! given last, and the one that was served last.

use std::{fmt, future::Future, iter, pin::Pin, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{
    line::Line,
    pace::{Pace, Turns},
};
use crate::{sync::Mutex, task::Timestamp};

/// A task whose turn is within this waits at the gate, leased. At least one does.
pub(super) const WORTH_WAITING: Duration = Duration::from_millis(100);

/// A limit on the attempts of one or several processes, with those that wait for it.
pub(crate) struct Gate {
    limit: Limit,
    line: Mutex<Line>,
}

/// What is limited.
#[derive(Debug)]
pub(super) enum Limit {
    AtOnce {
        permits: Arc<Semaphore>,
        max: usize,
        pace: Pace,
    },
    PerTime(Turns),
}

/// A turn that is near.
pub(crate) type Turn = Pin<Box<dyn Future<Output = Option<Pass>> + Send>>;

/// What a gate answers a task.
pub(crate) enum Entry {
    /// It may start.
    Now(Pass),
    /// It may wait for its turn here. It yields `None` if nothing becomes free in time.
    Soon { place: u64, turn: Turn },
    /// It is to come back after this long.
    Later { place: u64, wait: Duration },
}

/// Admits one attempt. Dropped when the attempt ends.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Arc<Gate>,
    /// Held for its drop.
    _permit: Option<OwnedSemaphorePermit>,
    /// When the attempt began. One that never did gives its turn back.
    began: Option<Instant>,
}

impl Gate {
    pub(super) fn new(limit: Limit) -> Arc<Self> {
        let line = Mutex::default();
        Arc::new(Self { limit, line })
    }

    pub(super) fn limit(&self) -> &Limit {
        &self.limit
    }

    /// Admits a task, or says where and for how long it waits. `place` is the one it was given before; a new one comes
    /// behind all that wait.
    pub(crate) fn enter(self: &Arc<Self>, place: Option<u64>, now: Timestamp) -> Entry {
        let mut line = self.line.lock();
        let is_new = place.is_none();
        let place = line.join(place, now);
        let number = line.number(place);
        let is_next = number <= line.held as u64 + 1;
        let is_near = !is_new && self.is_near(number);
        // Those that come back do so in the order of the line.
        let is_next = is_next || !is_new && number <= self.about_next();
        let patience = match &self.limit {
            _ if is_near => self.patience(),
            // The front of the line looks more often than that.
            Limit::AtOnce { .. } if !is_new => LOOK_AGAIN / 2,
            _ => LOOK_AGAIN,
        };
        let may_start = is_next || self.idle() > patience;
        if may_start && let Some(pass) = self.try_pass() {
            line.let_in(place, is_next || is_near);
            return Entry::Now(pass);
        }
        line.last = line.last.max(place);
        if is_next
            && (line.held as u64) < self.about_next()
            && let Some(turn) = self.turn(place)
        {
            line.held += 1;
            return Entry::Soon { place, turn };
        }
        let wait = self.until_back(line.send_back(place));
        Entry::Later { place, wait }
    }

    /// When a task that had no turn here comes back.
    pub(crate) fn come_back(&self, place: u64) -> Duration {
        let number = self.line.lock().send_back(place);
        self.until_back(number)
    }

    /// Takes a turn that is free now.
    fn try_pass(self: &Arc<Self>) -> Option<Pass> {
        match &self.limit {
            Limit::AtOnce { permits, .. } => {
                let permit = Arc::clone(permits).try_acquire_owned().ok()?;
                Some(self.pass(Some(permit)))
            }
            Limit::PerTime(turns) => turns.take_within(Duration::ZERO).map(|_| self.pass(None)),
        }
    }

    /// Lines up for a turn that is near. Callers have their turns in the order of their calls.
    fn turn(self: &Arc<Self>, place: u64) -> Option<Turn> {
        match &self.limit {
            Limit::AtOnce { permits, .. } => {
                let mut acquire = Box::pin(Arc::clone(permits).acquire_owned());
                // Its place among the waiters is that of its first poll.
                let first = acquire.as_mut().now_or_never();
                let held = Held(Arc::clone(self));
                Some(Box::pin(async move {
                    let permit = match first {
                        Some(permit) => permit,
                        None => tokio::time::timeout(WORTH_WAITING, acquire).await.ok()?,
                    };
                    // The semaphore is never closed.
                    let pass = held.0.pass(Some(permit.ok()?));
                    held.0.line.lock().let_in(place, true);
                    Some(pass)
                }))
            }
            Limit::PerTime(turns) => {
                let wait = turns.take_within(WORTH_WAITING)?;
                let held = Held(Arc::clone(self));
                let pass = self.pass(None);
                Some(Box::pin(async move {
                    tokio::time::sleep(wait).await;
                    held.0.line.lock().let_in(place, true);
                    Some(pass)
                }))
            }
        }
    }

    fn pass(self: &Arc<Self>, permit: Option<OwnedSemaphorePermit>) -> Pass {
        if let Limit::AtOnce { pace, .. } = &self.limit {
            pace.began();
        }
        Pass {
            gate: Arc::clone(self),
            _permit: permit,
            began: None,
        }
    }

    /// How many tasks start about now: within [`WORTH_WAITING`], or by the clock if a few before them are gone.
    fn about_next(&self) -> u64 {
        let interval = match &self.limit {
            Limit::AtOnce { max, pace, .. } => pace.interval(*max),
            Limit::PerTime(turns) => turns.interval(),
        };
        let least = match &self.limit {
            Limit::AtOnce { .. } => 1,
            Limit::PerTime(_) => 3,
        };
        let starts = WORTH_WAITING.as_secs_f64() / interval.as_secs_f64().max(1e-6);
        (starts as u64).clamp(least, 1_000)
    }

    /// For how long a turn may be free until it goes to any task that comes, since the front of the line is away.
    fn patience(&self) -> Duration {
        let interval = match &self.limit {
            Limit::AtOnce { max, pace, .. } => pace.interval(*max),
            Limit::PerTime(turns) => turns.interval(),
        };
        // Less than those have that are not near: the line keeps its order.
        let most = match &self.limit {
            Limit::AtOnce { .. } => LOOK_AGAIN / 4,
            Limit::PerTime(_) => LOOK_AGAIN,
        };
        (interval / 4).clamp(Duration::from_millis(5), most)
    }

    /// For how long a turn has been free.
    fn idle(&self) -> Duration {
        match &self.limit {
            Limit::AtOnce { permits, pace, .. } if permits.available_permits() > 0 => pace.idle(),
            Limit::AtOnce { .. } => Duration::ZERO,
            Limit::PerTime(turns) => turns.idle(),
        }
    }

    /// How long it takes until the turn of the one with this number.
    fn until_turn(&self, number: u64) -> Duration {
        let times = |interval: Duration, n: u64| {
            interval.saturating_mul(u32::try_from(n).unwrap_or(u32::MAX))
        };
        match &self.limit {
            // When it becomes one of the next, since another may end at any time after that.
            Limit::AtOnce { max, pace, .. } => {
                let before = (number - 1).saturating_sub(self.about_next() / 2);
                times(pace.interval(*max), before)
            }
            Limit::PerTime(turns) => turns
                .wait()
                .saturating_add(times(turns.interval(), number - 1)),
        }
    }

    /// Whether a task comes back just for its turn, rather than to look whether the line has become shorter.
    fn is_near(&self, number: u64) -> bool {
        match &self.limit {
            Limit::AtOnce { max, .. } => {
                number <= *max as u64 || self.until_turn(number) <= LOOK_AGAIN
            }
            Limit::PerTime(_) => self.until_turn(number) <= FAR,
        }
    }

    /// When a task comes back: at its turn if that is known, else sooner, since the line may have become shorter.
    fn until_back(&self, number: u64) -> Duration {
        let turn = self.until_turn(number);
        let back = match &self.limit {
            Limit::AtOnce { .. } if turn <= LOOK_AGAIN => turn.max(self.patience()),
            // Any that is free goes to one of these.
            Limit::AtOnce { max, .. } if number <= *max as u64 => LOOK_AGAIN / 4,
            // The next attempts may be far quicker than the last, so that the whole line comes back soon, one after the other.
            Limit::AtOnce { pace, .. } => {
                let each = (pace.idle() / 200).clamp(LEAST_APART, MOST_APART);
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                let soon = LOOK_AGAIN / 4 + each.saturating_mul(number);
                (turn / 2).clamp(LOOK_AGAIN, FAR).min(soon)
            }
            Limit::PerTime(_) if turn <= FAR => turn,
            Limit::PerTime(_) => (turn / 8).clamp(FAR, FARTHEST),
        };
        back.max(Duration::from_millis(1))
    }
}

/// How soon those that are next look again whether another task has ended.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long after the task before it one comes back whose turn depends on how long others take, at least and at most: the
/// longer nothing has ended, the longer. It bounds how many come back for nothing to some 150 a second, and fewer where
/// attempts are long.
const LEAST_APART: Duration = Duration::from_millis(10);
const MOST_APART: Duration = Duration::from_millis(100);

/// How long a task is away at most that is not far from its turn; and how long at most in all.
const FAR: Duration = Duration::from_secs(300);
const FARTHEST: Duration = Duration::from_secs(3600);

/// One that waits at a gate.
struct Held(Arc<Gate>);

impl Drop for Held {
    fn drop(&mut self) {
        let mut line = self.0.line.lock();
        line.held = line.held.saturating_sub(1);
    }
}

impl Pass {
    /// Notes that the attempt begins.
    fn begin(&mut self) {
        self.began = Some(Instant::now());
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        match (&self.gate.limit, self.began) {
            (Limit::AtOnce { pace, .. }, Some(began)) => pace.ended(began.elapsed()),
            (Limit::PerTime(turns), None) => turns.give_back(),
            _ => {}
        }
    }
}

/// What admits one attempt through all gates of its process.
#[derive(Debug, Default)]
pub(crate) struct Passes(Vec<Pass>);

impl Passes {
    pub(crate) fn push(&mut self, pass: Pass) {
        self.0.push(pass);
    }

    /// Notes that the attempt begins.
    pub(crate) fn begin(&mut self) {
        self.0.iter_mut().for_each(Pass::begin);
    }
}

/// The gates around a process, from the outside in. Most have none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gates(Option<Arc<[Arc<Gate>]>>);

impl Gates {
    pub(crate) fn get(&self, index: usize) -> Option<&Arc<Gate>> {
        self.0.as_ref()?.get(index)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn has(&self, gate: &Arc<Gate>) -> bool {
        let mut gates = self.0.iter().flat_map(|gates| gates.iter());
        gates.any(|other| Arc::ptr_eq(other, gate))
    }

    /// These with one more around them. A gate that is among them already is passed once.
    pub(super) fn within(&self, gate: &Arc<Gate>) -> Self {
        if self.has(gate) {
            return self.clone();
        }
        let inner = self.0.iter().flat_map(|gates| gates.iter());
        Self(Some(iter::once(gate).chain(inner).cloned().collect()))
    }

    /// These, or those of what is inside where a layer between hides them.
    pub(super) fn or(self, inner: &Self) -> Self {
        if self.is_empty() { inner.clone() } else { self }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
