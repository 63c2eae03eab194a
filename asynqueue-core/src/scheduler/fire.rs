//! Firing the ticks of an entry.

use std::sync::Arc;

use tracing::Span;

use super::{After, Before, InvalidRule, Rule, plan};
use crate::{
    broker::{BrokerError, Fire, ScheduleEntry, Tick},
    metrics::{self, EnqueueResult},
    producer::Producer,
    server::guarded,
    task::{Name, Timestamp},
    trace,
};

/// Why this scheduler could not fire an entry in this turn.
pub(super) enum CannotFire {
    /// Its rule is invalid in this version.
    Rule(InvalidRule),
    Broker(BrokerError),
}

/// What is needed to fire an entry.
pub(super) struct Firing {
    pub(super) producer: Producer,
    pub(super) before: Vec<Arc<Before>>,
    pub(super) after: Vec<Arc<After>>,
}

impl Firing {
    /// Enqueues the tasks of an entry's due ticks. Returns its next tick.
    pub(super) async fn fire(
        &self,
        entry: &ScheduleEntry,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, CannotFire> {
        // A later version may have written the rule and can parse it: the entry stays as it is.
        let rule: Rule = entry.rule.parse().map_err(CannotFire::Rule)?;
        let mut fires = plan::plan(entry, &rule, now);
        let next = fires.last().and_then(|fire| fire.next);
        for fire in &mut fires {
            self.call_before(entry, fire);
        }
        let records: Vec<_> = fires.iter_mut().map(Record::of).collect();
        let fired = self.producer.broker().fire(fires).await;
        let fired = fired.map_err(CannotFire::Broker)?;
        for (Record { tick, task }, fired) in records.into_iter().zip(&fired) {
            if let Err(conflict) = fired {
                tracing::warn!(entry = %entry.name, %conflict, "the task of a tick was refused; skipping the tick");
            }
            if let Some((queue, event, _)) = task {
                match fired {
                    Ok(true) => metrics::enqueued(&queue, &event, EnqueueResult::Accepted),
                    // Another scheduler was first.
                    Ok(false) => {}
                    Err(_) => metrics::enqueued(&queue, &event, EnqueueResult::Duplicate),
                }
            }
            for after in &self.after {
                guarded("a hook after a tick", || after(entry, tick, fired));
            }
        }
        Ok(next)
    }

    fn call_before(&self, entry: &ScheduleEntry, fire: &mut Fire) {
        let tick = fire.tick;
        let Tick::Enqueue(task, _) = &mut fire.what else {
            return;
        };
        let (id, queue) = (task.id.clone(), task.queue.clone());
        for before in &self.before {
            let call = || before(entry, tick, task);
            let answer = guarded("a hook before a tick", call);
            match answer.unwrap_or_else(|| Err("a hook panicked".into())) {
                // The id and the queue identify the tick, so a hook cannot change them.
                Ok(()) => (task.id, task.queue) = (id.clone(), queue.clone()),
                Err(reason) => {
                    fire.what = Tick::Skip(reason);
                    return;
                }
            }
        }
    }
}

/// What to record about a tick after it was fired.
struct Record {
    tick: Timestamp,
    /// Queue, event and span of its task, if it has one.
    task: Option<(Name, Name, Span)>,
}

impl Record {
    fn of(fire: &mut Fire) -> Self {
        let task = match &mut fire.what {
            Tick::Enqueue(task, _) => {
                let (queue, event) = (task.queue.clone(), task.event.clone());
                let span = trace::send(&queue, 1, std::iter::once(task));
                Some((queue, event, span))
            }
            Tick::Skip(_) => None,
        };
        Self {
            tick: fire.tick,
            task,
        }
    }
}
