//! One turn of a scheduler: each entry that is due is fired, and succeeds or fails alone.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use super::{
    Rule, Scheduler,
    failing::{LONGEST, LONGEST_AWAY},
    fire::CannotFire,
};
use crate::{
    ambient,
    broker::{BrokerError, CLOCK_TOLERANCE, Fire, ScheduleEntry, Tick},
    metrics,
    server::is_closed,
    task::Timestamp,
};

/// The most entries to fire in one turn.
const MAX_BATCH: usize = 100;

/// How long to wait at most before another look: an entry may have been added that is due earlier than was known.
const LOOK_FOR_ENTRIES: Duration = Duration::from_secs(1);

/// How often to look for entries whose next tick lies too far ahead; also at once when the clock goes back.
const LOOK_AHEAD: Duration = Duration::from_secs(60);

/// What a scheduler knows of the broker's clock.
#[derive(Debug)]
pub(super) struct Watch {
    /// The last time it has seen.
    last: Timestamp,
    /// When to look ahead again.
    again: Instant,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self {
            last: Timestamp::default(),
            again: Instant::now(),
        }
    }

    fn saw(&mut self, now: Timestamp) {
        if now < self.last {
            let by = self.last.since(now);
            tracing::warn!(?by, "the broker's clock went back");
            self.again = Instant::now();
        }
        self.last = now;
    }
}

/// An entry and the result of firing it.
pub(super) type Fired = (ScheduleEntry, Result<Option<Timestamp>, CannotFire>);

impl Scheduler {
    /// Fires what is due; returns how long to wait for what is due next.
    pub(super) async fn turn(&mut self) -> Result<Duration, BrokerError> {
        // Read before the time is: an entry that another moves on meanwhile does not lie ahead.
        let ahead = if self.watch.again <= Instant::now() {
            self.watch.again = Instant::now() + LOOK_AHEAD;
            self.broker().schedules().await?
        } else {
            Vec::new()
        };
        // Those that cannot be fired must not take the places of others.
        let limit = MAX_BATCH + self.failing.len() + self.busy.len();
        let due = self.broker().due_schedules(limit).await?;
        let asked = Instant::now();
        self.watch.saw(due.now);
        for entry in &ahead {
            self.set_back(entry, due.now).await?;
        }
        let next = self.fire_all(due.entries, due.now).await?;
        let next = [due.next_due, next].into_iter().flatten().min();
        let until_due = next.map_or(Duration::MAX, |next| next.since(due.now));
        let until_look = self.watch.again.saturating_duration_since(asked);
        let wait = until_due.min(until_look).min(LOOK_FOR_ENTRIES);
        Ok(wait.saturating_sub(asked.elapsed()))
    }

    /// Fires entries side by side. What takes longer than a look at all of them is left under way: an entry whose queue
    /// does not answer holds up no other. Returns the first of the next ticks.
    async fn fire_all(
        &mut self,
        due: Vec<ScheduleEntry>,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, BrokerError> {
        self.failing.keep(&due);
        let started = Instant::now();
        for entry in due {
            if self.failing.may_fire(&entry, started) && self.busy.insert(entry.name.clone()) {
                let firing = Arc::clone(&self.firing);
                let fire = async move {
                    let fired = firing.fire(&entry, now).await;
                    (entry, fired)
                };
                self.under_way.spawn(ambient::here(fire.in_current_span()));
            }
        }
        let (until, mut first) = (started + LOOK_FOR_ENTRIES, None);
        while let Ok(Some(fired)) = timeout_at(until, self.under_way.join_next()).await {
            match fired {
                Ok((entry, fired)) => {
                    let next = self.fired(entry, fired).await?;
                    first = [first, next].into_iter().flatten().min();
                }
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        Ok(first)
    }

    async fn fired(
        &mut self,
        entry: ScheduleEntry,
        fired: Result<Option<Timestamp>, CannotFire>,
    ) -> Result<Option<Timestamp>, BrokerError> {
        self.busy.remove(&entry.name);
        match fired {
            Ok(next) => {
                self.failing.worked(&entry.name);
                return Ok(next);
            }
            Err(CannotFire::Broker(error)) if is_closed(&error) => return Err(error),
            Err(CannotFire::Broker(error)) => {
                metrics::broker_failed("fire schedules");
                let longest = match error.is_temporary() {
                    true => LONGEST_AWAY,
                    false => LONGEST,
                };
                self.failing.failed(entry, error.to_string(), longest);
            }
            Err(CannotFire::Rule(error)) => {
                let reason = error.to_string();
                if self.failing.failed(entry.clone(), reason, LONGEST) {
                    let reason =
                        format!("left to a scheduler of a version that can read its rule: {error}");
                    self.note(&entry, reason, entry.next).await?;
                }
            }
        }
        Ok(None)
    }

    /// Sets an entry's next tick back that lies beyond the one which its rule gives: it was set by a clock that was ahead.
    async fn set_back(&self, entry: &ScheduleEntry, now: Timestamp) -> Result<(), BrokerError> {
        let Ok(rule) = entry.rule.parse::<Rule>() else {
            return Ok(());
        };
        let latest = rule.next_after(now + CLOCK_TOLERANCE);
        let is_ahead = !entry.paused && latest.is_some_and(|latest| entry.next > Some(latest));
        if !is_ahead {
            return Ok(());
        }
        let next = rule.next_after(now);
        tracing::warn!(entry = %entry.name, was = ?entry.next, ?next, "the next tick of a schedule entry lay too far ahead, \
            and is set back; the broker's clock was wrong");
        let reason = "the clock went back: this tick lay beyond the next one of the rule";
        self.note(entry, reason.into(), next).await
    }

    /// Notes in an entry's history why its next tick is not fired, and sets the next. Where that fails it is done in
    /// another turn, or by another scheduler.
    async fn note(
        &self,
        entry: &ScheduleEntry,
        reason: String,
        next: Option<Timestamp>,
    ) -> Result<(), BrokerError> {
        let Some(tick) = entry.next else {
            return Ok(());
        };
        let skip = Fire {
            name: entry.name.clone(),
            tick,
            what: Tick::Skip(reason),
            next,
        };
        match self.broker().fire(vec![skip]).await {
            Err(error) if is_closed(&error) => Err(error),
            Err(error) => {
                tracing::warn!(entry = %entry.name, %error, "the history of a schedule entry could not be changed");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }
}
