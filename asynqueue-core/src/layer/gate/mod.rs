//! Gates: where tasks wait for a limit before their attempt starts, so that the wait costs neither a slot nor their
//! timeout.
//!
//! A server passes a task through the gates of its handler right after leasing it. A task that may start soon waits at
//! the gate. All others return to the broker, each with its [place](crate::task::Envelope::place) in the line and a
//! delay until about its turn. However long the line is, the gate stores two numbers: the place given last, and the
//! place served last.

mod usage;

use std::{fmt, future::Future, iter, pin::Pin, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use self::usage::Away;
use super::{
    line::Line,
    pace::{Pace, Turns},
};
use crate::{sync::Mutex, task::Timestamp};

/// A task whose turn is at most this far away waits at the gate, leased. At least one task does.
pub(super) const WORTH_WAITING: Duration = Duration::from_millis(100);

/// A limit on the attempts of one or several handlers, and the line of the tasks that wait for it.
pub(crate) struct Gate {
    limit: Limit,
    line: Mutex<Line>,
    away: Away,
}

/// The kinds of limits.
#[derive(Debug)]
pub(super) enum Limit {
    AtOnce {
        permits: Arc<Semaphore>,
        max: usize,
        pace: Pace,
    },
    PerTime(Turns),
}

/// A turn that is near. Resolves to `None` if nothing becomes free in time.
pub(crate) type Turn = Pin<Box<dyn Future<Output = Option<Pass>> + Send>>;

/// The decision of a gate.
pub(crate) enum Entry {
    /// The task may start.
    Now(Pass),
    /// The task may wait for its turn here.
    Soon { place: u64, turn: Turn },
    /// The task has to come back after this long.
    Later { place: u64, wait: Duration },
}

/// Admits one attempt. Dropped when the attempt ends.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Arc<Gate>,
    /// Held until the pass is dropped.
    _permit: Option<OwnedSemaphorePermit>,
    /// When the attempt started. If it did not, the turn is returned.
    started: Option<Instant>,
}

impl Gate {
    pub(super) fn new(limit: Limit) -> Arc<Self> {
        let line = Mutex::default();
        Arc::new(Self {
            limit,
            line,
            away: Away::default(),
        })
    }

    pub(super) fn limit(&self) -> &Limit {
        &self.limit
    }

    /// Admits a task, or decides where and how long it waits. `place` is the place it was given earlier. A new task
    /// joins the line at its end.
    pub(crate) fn enter(self: &Arc<Self>, place: Option<u64>, now: Timestamp) -> Entry {
        let mut line = self.line.lock();
        let is_new = place.is_none();
        let place = line.join(place, now);
        let number = line.number(place);
        let is_next = number <= line.held as u64 + 1;
        let is_near = !is_new && self.is_near(number);
        // Returning tasks come back in the order of the line.
        let is_next = is_next || !is_new && number <= self.about_next();
        let patience = match &self.limit {
            _ if is_near => self.patience(),
            // The front of the line comes back more often than that.
            Limit::AtOnce { .. } if !is_new => LOOK_AGAIN / 2,
            _ => LOOK_AGAIN,
        };
        let may_start = is_next || self.idle() > patience;
        if may_start && let Some(pass) = self.try_pass() {
            line.record_start(place, is_next || is_near);
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

    /// How long a task without a turn here stays away.
    pub(crate) fn send_back(&self, place: u64) -> Duration {
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

    /// Queues for a turn that is near. Turns are given in the order of the calls.
    fn turn(self: &Arc<Self>, place: u64) -> Option<Turn> {
        match &self.limit {
            Limit::AtOnce { permits, .. } => {
                let mut acquire = Box::pin(Arc::clone(permits).acquire_owned());
                // The first poll decides its place among the waiters.
                let first = acquire.as_mut().now_or_never();
                let held = Held(Arc::clone(self));
                Some(Box::pin(async move {
                    let permit = match first {
                        Some(permit) => permit,
                        None => tokio::time::timeout(WORTH_WAITING, acquire).await.ok()?,
                    };
                    // The semaphore is never closed.
                    let pass = held.0.pass(Some(permit.ok()?));
                    held.0.line.lock().record_start(place, true);
                    Some(pass)
                }))
            }
            Limit::PerTime(turns) => {
                let wait = turns.take_within(WORTH_WAITING)?;
                let held = Held(Arc::clone(self));
                let pass = self.pass(None);
                Some(Box::pin(async move {
                    tokio::time::sleep(wait).await;
                    held.0.line.lock().record_start(place, true);
                    Some(pass)
                }))
            }
        }
    }

    fn pass(self: &Arc<Self>, permit: Option<OwnedSemaphorePermit>) -> Pass {
        if let Limit::AtOnce { pace, .. } = &self.limit {
            pace.started();
        }
        Pass {
            gate: Arc::clone(self),
            _permit: permit,
            started: None,
        }
    }

    /// How many tasks start about now: within [`WORTH_WAITING`], or, at a rate, if a few before them are gone.
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

    /// How long a turn may be free before it goes to any task that comes, because the front of the line is away.
    fn patience(&self) -> Duration {
        let interval = match &self.limit {
            Limit::AtOnce { max, pace, .. } => pace.interval(*max),
            Limit::PerTime(turns) => turns.interval(),
        };
        // Less than for tasks that are not near, so that the line keeps its order.
        let most = match &self.limit {
            Limit::AtOnce { .. } => LOOK_AGAIN / 4,
            Limit::PerTime(_) => LOOK_AGAIN,
        };
        (interval / 4).clamp(Duration::from_millis(5), most)
    }

    /// How long a turn has been free.
    fn idle(&self) -> Duration {
        match &self.limit {
            Limit::AtOnce { permits, pace, .. } if permits.available_permits() > 0 => pace.idle(),
            Limit::AtOnce { .. } => Duration::ZERO,
            Limit::PerTime(turns) => turns.idle(),
        }
    }

    /// How long until the turn of the task with this number in the line.
    fn until_turn(&self, number: u64) -> Duration {
        let times = |interval: Duration, n: u64| {
            interval.saturating_mul(u32::try_from(n).unwrap_or(u32::MAX))
        };
        match &self.limit {
            // The time until it is among the next ones, because another attempt may end at any time after that.
            Limit::AtOnce { max, pace, .. } => {
                let before = (number - 1).saturating_sub(self.about_next() / 2);
                times(pace.interval(*max), before)
            }
            Limit::PerTime(turns) => turns
                .wait()
                .saturating_add(times(turns.interval(), number - 1)),
        }
    }

    /// Whether a task comes back for its turn, rather than to check whether the line has become shorter.
    fn is_near(&self, number: u64) -> bool {
        match &self.limit {
            Limit::AtOnce { max, .. } => {
                number <= *max as u64 || self.until_turn(number) <= LOOK_AGAIN
            }
            Limit::PerTime(_) => self.until_turn(number) <= FAR,
        }
    }

    /// When a task comes back: at its turn if that is known, otherwise sooner, because the line may have become
    /// shorter.
    fn until_back(&self, number: u64) -> Duration {
        let turn = self.until_turn(number);
        let back = match &self.limit {
            Limit::AtOnce { .. } if turn <= LOOK_AGAIN => turn.max(self.patience()),
            // The next free turn goes to one of these.
            Limit::AtOnce { max, .. } if number <= *max as u64 => LOOK_AGAIN / 4,
            // The next attempts may be much shorter than the last ones, so the line comes back soon, one task after
            // another.
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

/// How soon the next tasks check again whether another one has ended.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The bounds of the interval between two tasks that come back, when their turn depends on the duration of other
/// attempts. The interval grows with the time since the last attempt ended. At most about 150 tasks a second come back
/// without a turn, and fewer if attempts are long.
const LEAST_APART: Duration = Duration::from_millis(10);
const MOST_APART: Duration = Duration::from_millis(100);

/// The longest time away: of a task not far from its turn, and of any task.
const FAR: Duration = Duration::from_secs(300);
const FARTHEST: Duration = Duration::from_secs(3600);

/// A task that waits at a gate.
struct Held(Arc<Gate>);

impl Drop for Held {
    fn drop(&mut self) {
        let mut line = self.0.line.lock();
        line.held = line.held.saturating_sub(1);
    }
}

impl Pass {
    /// Records the start of the attempt.
    fn start(&mut self) {
        self.started = Some(Instant::now());
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        match (&self.gate.limit, self.started) {
            (Limit::AtOnce { pace, .. }, Some(started)) => pace.ended(started.elapsed()),
            (Limit::PerTime(turns), None) => turns.return_turn(),
            _ => {}
        }
    }
}

/// Admits one attempt through all gates of its handler.
#[derive(Debug, Default)]
pub(crate) struct Passes(Vec<Pass>);

impl Passes {
    pub(crate) fn push(&mut self, pass: Pass) {
        self.0.push(pass);
    }

    /// Records the start of the attempt.
    pub(crate) fn start(&mut self) {
        self.0.iter_mut().for_each(Pass::start);
    }
}

/// The gates around a handler, from the outside in. Most handlers have none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gates(Option<Arc<[Arc<Gate>]>>);

impl Gates {
    pub(crate) fn get(&self, index: usize) -> Option<&Arc<Gate>> {
        self.0.as_ref()?.get(index)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Gate>> {
        self.0.iter().flat_map(|gates| gates.iter())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn has(&self, gate: &Arc<Gate>) -> bool {
        self.iter().any(|other| Arc::ptr_eq(other, gate))
    }

    /// These gates with one more around them. A gate that is already among them is passed once.
    pub(super) fn within(&self, gate: &Arc<Gate>) -> Self {
        if self.has(gate) {
            return self.clone();
        }
        let inner = self.0.iter().flat_map(|gates| gates.iter());
        Self(Some(iter::once(gate).chain(inner).cloned().collect()))
    }

    /// These gates, or those of `inner` if a layer in between hides them.
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
