//! One turn of a scheduler: fires each due entry. Entries succeed or fail independently.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use super::{
    Rule, Scheduler,
    failing::{LONGEST, LONGEST_UNAVAILABLE},
    fire::CannotFire,
};
use crate::{
    ambient,
    broker::{BrokerError, CLOCK_TOLERANCE, Fire, ScheduleEntry, Tick},
    metrics,
    server::is_closed,
    task::Timestamp,
};

/// The maximum number of entries fired per turn.
const MAX_BATCH: usize = 100;

/// The maximum time between turns: an entry that is due earlier may have been added.
const CHECK_ENTRIES: Duration = Duration::from_secs(1);

/// How often to check for entries whose next tick is too far ahead. Also checked when the clock moves backwards.
const CHECK_AHEAD: Duration = Duration::from_secs(60);

/// The scheduler's record of the broker's clock.
#[derive(Debug)]
pub(super) struct Watch {
    /// The last time read from it.
    last: Timestamp,
    /// When to check for entries too far ahead again.
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
            tracing::warn!(
                ?by,
                "the broker's clock moved backwards; checking the next ticks of all schedule entries"
            );
            self.again = Instant::now();
        }
        self.last = now;
    }
}

/// An entry and the result of firing it.
pub(super) type Fired = (ScheduleEntry, Result<Option<Timestamp>, CannotFire>);

impl Scheduler {
    /// Fires due entries. Returns how long to wait for the next one.
    pub(super) async fn turn(&mut self) -> Result<Duration, BrokerError> {
        // Read before the time: an entry that another scheduler advances in between is not too far ahead.
        let ahead = if self.watch.again <= Instant::now() {
            self.watch.again = Instant::now() + CHECK_AHEAD;
            self.broker().schedules().await?
        } else {
            Vec::new()
        };
        // Failing entries must not take the places of others.
        let limit = MAX_BATCH + self.failing.len() + self.busy.len();
        let due = self.broker().due_schedules(limit).await?;
        let started = Instant::now();
        self.watch.saw(due.now);
        for entry in &ahead {
            self.set_back(entry, due.now).await?;
        }
        let next = self.fire_all(due.entries, due.now).await?;
        let next = [due.next_due, next].into_iter().flatten().min();
        let until_due = next.map_or(Duration::MAX, |next| next.since(due.now));
        let until_check = self.watch.again.saturating_duration_since(started);
        let wait = until_due.min(until_check).min(CHECK_ENTRIES);
        Ok(wait.saturating_sub(started.elapsed()))
    }

    /// Fires entries concurrently. Entries that take longer than a turn continue in the background, so that a queue
    /// that does not respond holds up no other. Returns the earliest next tick.
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
        let (until, mut first) = (started + CHECK_ENTRIES, None);
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
                    true => LONGEST_UNAVAILABLE,
                    false => LONGEST,
                };
                self.failing.failed(entry, error.to_string(), longest);
            }
            Err(CannotFire::Rule(error)) => {
                let reason = error.to_string();
                if self.failing.failed(entry.clone(), reason, LONGEST) {
                    let reason = format!(
                        "this scheduler's version does not support the rule; left to a later version: {error}"
                    );
                    self.note(&entry, reason, entry.next).await?;
                }
            }
        }
        Ok(None)
    }

    /// Sets back an entry's next tick that is later than its rule allows: a clock that was ahead had set it.
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
        tracing::warn!(entry = %entry.name, was = ?entry.next, ?next, "the next tick was too far ahead because \
            the broker's clock was wrong; setting it back");
        let reason = "the clock moved backwards: this tick was later than the rule's next one";
        self.note(entry, reason.into(), next).await
    }

    /// Records in an entry's history why its next tick is not fired, and sets the next one. If this fails, a later turn
    /// or another scheduler repeats it.
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
                tracing::warn!(entry = %entry.name, %error, "could not update the history of a schedule \
                    entry; retrying");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }
}
