//! A schedule entry: a task and a rule for when it is due.

use std::{fmt, time::Duration};

use super::{InvalidRule, Rule};
use crate::{
    broker::{BrokerError, Conflict, MissedTicks, ScheduleEntry},
    producer::{CallOptions, EnqueueError, Producer},
    task::{Envelope, Name, Task, TaskId, Timestamp},
};

/// A task to enqueue repeatedly, by a rule.
///
/// ```
/// use asynqueue_core::{broker::MissedTicks, scheduler::Entry};
/// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
/// # #[task(event = "clean-up", crate = asynqueue_core)]
/// # struct CleanUp { older_than_days: u32 }
///
/// let nightly = Entry::new("nightly-clean-up", "TZ=Europe/Berlin 0 3 * * *", CleanUp { older_than_days: 90 })?
///     .missed(MissedTicks::Skip)
///     .options(|call| call.queue("low").max_retry(3));
/// # Ok::<(), asynqueue_core::scheduler::ScheduleError>(())
/// ```
#[must_use = "an entry does nothing until it is added to a scheduler or a timetable"]
pub struct Entry {
    pub(super) name: Name,
    rule: Rule,
    missed: MissedTicks,
    jitter: Duration,
    call: CallOptions,
    build: Box<Build>,
}

type Build = dyn FnOnce(CallOptions, &Producer) -> Result<Envelope, EnqueueError> + Send;

/// An entry is invalid, or the scheduler or a change of an entry failed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// Its rule is invalid.
    #[error("schedule entry `{entry}`: {source}")]
    Rule {
        /// The name of the entry.
        entry: String,
        /// What is invalid, and where.
        source: InvalidRule,
    },
    /// Its name cannot be part of a task id.
    #[error(
        "invalid schedule entry name `{entry}`: expected 1 to 200 bytes without white space or control characters"
    )]
    Name {
        /// The rejected name.
        entry: String,
    },
    /// Its task is invalid.
    #[error("schedule entry `{entry}`: {source}")]
    Task {
        /// The name of the entry.
        entry: String,
        /// Why the task was refused.
        source: Box<EnqueueError>,
    },
    /// Its rule has no future tick.
    #[error("schedule entry `{entry}`: rule `{rule}` is never due")]
    Never {
        /// The name of the entry.
        entry: String,
        /// The rule that is never due.
        rule: String,
    },
    /// The entry does not exist.
    #[error("schedule entry `{entry}` does not exist")]
    Unknown {
        /// The requested name.
        entry: String,
    },
    /// Two entries have the same name.
    #[error("two schedule entries are named `{entry}`: rename one of them")]
    Duplicate {
        /// The duplicate name.
        entry: String,
    },
    /// A schedule file is invalid or cannot be read.
    #[error("schedule file `{path}`: {problem}")]
    File {
        /// The path of the file.
        path: String,
        /// What is invalid, and where.
        problem: String,
    },
    /// The task of a triggered entry was refused.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The scheduler panicked. The most likely cause is the broker.
    #[error("the scheduler stopped because an internal task panicked: {message}")]
    Panicked {
        /// The panic message.
        message: String,
    },
    /// The broker call failed.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

crate::debug_as_text!(ScheduleError);

impl Entry {
    /// An entry with this name, which is due by a [rule](Rule).
    ///
    /// # Errors
    ///
    /// When the rule is invalid, or the name cannot be part of a task id.
    pub fn new<T: Task>(name: &str, rule: &str, task: T) -> Result<Self, ScheduleError> {
        let build = move |call: CallOptions, producer: &Producer| {
            call.refuse_durability::<T>(
                "scheduled tasks have the broker's durability; set it there",
            )?;
            Ok(call.build(producer, &task)?.envelope)
        };
        Self::with_build(name, rule, Box::new(build))
    }

    pub(super) fn with_build(
        name: &str,
        rule: &str,
        build: Box<Build>,
    ) -> Result<Self, ScheduleError> {
        let entry = || name.to_owned();
        if TaskId::new(name).is_err() || name.len() > MAX_NAME {
            return Err(ScheduleError::Name { entry: entry() });
        }
        let rule = rule.parse().map_err(|source| ScheduleError::Rule {
            entry: entry(),
            source,
        })?;
        Ok(Self {
            name: name.into(),
            rule,
            missed: MissedTicks::default(),
            jitter: Duration::ZERO,
            call: CallOptions::default(),
            build,
        })
    }

    /// Sets what happens to ticks that passed while no scheduler was running. Default: the last one is made up.
    pub fn missed(mut self, missed: MissedTicks) -> Self {
        self.missed = missed;
        self
    }

    /// Delays each task by a random time up to this. Default none.
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// Sets options of its tasks, as for a [single call](Producer::enqueue). Ids and delays have no effect.
    pub fn options(mut self, set: impl FnOnce(CallOptions) -> CallOptions) -> Self {
        self.call = set(self.call);
        self
    }

    /// The entry as the broker stores it.
    pub(super) fn into_kept(
        self,
        producer: &Producer,
        source: &str,
    ) -> Result<ScheduleEntry, ScheduleError> {
        let entry = self.name.to_string();
        let now = producer.broker().now();
        let Some(next) = self.rule.next_after(now) else {
            let rule = self.rule.to_string();
            return Err(ScheduleError::Never { entry, rule });
        };
        let template = (self.build)(self.call, producer).map_err(|source| ScheduleError::Task {
            entry,
            source: Box::new(source),
        })?;
        Ok(ScheduleEntry {
            template: as_template(template, &self.name),
            name: self.name,
            rule: self.rule.to_string(),
            next: Some(next),
            paused: false,
            missed: self.missed,
            jitter: self.jitter,
            source: source.to_owned(),
        })
    }
}

/// Leaves room for the tick in a task id.
const MAX_NAME: usize = 200;

/// A task without an id, whose times are relative to its enqueueing.
fn as_template(mut task: Envelope, entry: &Name) -> Envelope {
    let from_zero = |time: Timestamp| {
        let left = time.since(task.enqueued_at);
        Timestamp::default() + left
    };
    let (deadline, expires) = (
        task.deadline.map(from_zero),
        task.expires_at().map(from_zero),
    );
    task.deadline = deadline;
    task.set_expires_at(expires);
    task.enqueued_at = Timestamp::default();
    if let Ok(id) = TaskId::new(&**entry) {
        task.id = id;
    }
    task
}

/// The task of a template, enqueued at a time.
pub(super) fn task_of(template: &Envelope, id: TaskId, now: Timestamp, at: Timestamp) -> Envelope {
    let since = |time: Timestamp| at.max(now) + Duration::from_millis(time.as_millis());
    let mut task = template.clone();
    task.id = id;
    task.enqueued_at = now;
    task.deadline = template.deadline.map(since);
    task.set_expires_at(template.expires_at().map(since));
    task
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("name", &self.name)
            .field("rule", &self.rule)
            .finish_non_exhaustive()
    }
}
