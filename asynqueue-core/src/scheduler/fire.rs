//! Firing the ticks of an entry.

use tracing::Span;

use super::{InvalidRule, Rule, Scheduler, plan};
use crate::{
    broker::{BrokerError, Fire, ScheduleEntry, Tick},
    metrics::{self, EnqueueResult},
    server::guarded,
    task::{Name, Timestamp},
    trace,
};

impl Scheduler {
    /// Enqueues the tasks of an entry's ticks that have come.
    pub(super) async fn fire(&self, entry: ScheduleEntry) -> Result<(), BrokerError> {
        let rule: Rule = match entry.rule.parse() {
            Ok(rule) => rule,
            Err(error) => return self.set_aside(entry, &error).await,
        };
        let mut fires = plan::plan(&entry, &rule, self.broker().now());
        for fire in &mut fires {
            self.call_before(&entry, fire);
        }
        let told: Vec<_> = fires.iter_mut().map(Told::of).collect();
        let fired = self.broker().fire(fires).await?;
        for (Told { tick, task }, fired) in told.into_iter().zip(&fired) {
            if let Err(conflict) = fired {
                tracing::warn!(entry = %entry.name, %conflict, "the task of a tick was refused");
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
                guarded("a hook after a tick", || after(&entry, tick, fired));
            }
        }
        Ok(())
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
                // Where the task goes and what it is called make it one of its tick.
                Ok(()) => (task.id, task.queue) = (id.clone(), queue.clone()),
                Err(reason) => {
                    fire.what = Tick::Skip(reason);
                    return;
                }
            }
        }
    }

    /// Pauses an entry that a later version has put there, rather than look at it each second.
    async fn set_aside(
        &self,
        entry: ScheduleEntry,
        error: &InvalidRule,
    ) -> Result<(), BrokerError> {
        tracing::error!(entry = %entry.name, %error, "a schedule entry cannot be read; it is paused");
        let paused = ScheduleEntry {
            paused: true,
            ..entry
        };
        self.broker().put_schedules(vec![paused]).await
    }
}

/// What is told of a tick once it was fired.
struct Told {
    tick: Timestamp,
    /// Queue, event and span of its task, if it has one.
    task: Option<(Name, Name, Span)>,
}

impl Told {
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
