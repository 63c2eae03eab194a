//! One entry: a task and when it is due.

use std::{fmt, time::Duration};

use super::{InvalidRule, Rule};
use crate::{
    broker::{BrokerError, Conflict, MissedTicks, ScheduleEntry},
    producer::{CallOptions, EnqueueError, Producer},
    task::{Envelope, Name, Task, TaskId, Timestamp},
};

/// A task that is to be enqueued again and again.
///
/// ```
/// use asynqueue_core::{MissedTicks, scheduler::Entry};
/// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
/// # #[task(event = "clean-up", crate = asynqueue_core)]
/// # struct CleanUp { older_than_days: u32 }
///
/// let nightly = Entry::new("nightly-clean-up", "TZ=Europe/Berlin 0 3 * * *", CleanUp { older_than_days: 90 })?
///     .missed(MissedTicks::Skip)
///     .options(|call| call.queue("low").max_retry(3));
/// # Ok::<(), asynqueue_core::scheduler::ScheduleError>(())
/// ```
#[must_use = "an entry does nothing until it is given to a scheduler or to a timetable"]
pub struct Entry {
    pub(super) name: Name,
    rule: Rule,
    missed: MissedTicks,
    jitter: Duration,
    call: CallOptions,
    build: Box<Build>,
}

type Build = dyn FnOnce(CallOptions, &Producer) -> Result<Envelope, EnqueueError> + Send;

/// An entry could not be made, or not be changed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// Its rule makes no sense.
    #[error("schedule entry `{entry}`: {source}")]
    Rule {
        /// The entry.
        entry: String,
        /// What is wrong with the rule.
        source: InvalidRule,
    },
    /// Its name cannot be part of a task's id.
    #[error(
        "invalid name of a schedule entry, `{entry}`: it has 1 to 200 bytes and no white space or control characters"
    )]
    Name {
        /// The name as given.
        entry: String,
    },
    /// Its task makes no sense.
    #[error("schedule entry `{entry}`: {source}")]
    Task {
        /// The entry.
        entry: String,
        /// What is wrong with the task.
        source: Box<EnqueueError>,
    },
    /// Its rule has no tick to come.
    #[error("schedule entry `{entry}`: its rule `{rule}` is never due")]
    Never {
        /// The entry.
        entry: String,
        /// The rule.
        rule: String,
    },
    /// There is no such entry.
    #[error("there is no schedule entry `{entry}`")]
    Unknown {
        /// The name as given.
        entry: String,
    },
    /// Two entries of one name.
    #[error("two schedule entries are named `{entry}`: give one of them another name")]
    Duplicate {
        /// The name.
        entry: String,
    },
    /// A file of entries cannot be read.
    #[error("schedule file `{path}`: {problem}")]
    File {
        /// The file.
        path: String,
        /// What is wrong, and where.
        problem: String,
    },
    /// A task that was triggered is refused.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The broker did not answer.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

crate::debug_as_text!(ScheduleError);

impl Entry {
    /// An entry of this name, which is due by a [rule](Rule).
    ///
    /// # Errors
    ///
    /// When the rule makes no sense, or the name cannot be part of a task's id.
    pub fn new<T: Task>(name: &str, rule: &str, task: T) -> Result<Self, ScheduleError> {
        let build = move |call: CallOptions, producer: &Producer| {
            call.refuse_durability::<T>(
                "tasks of a schedule have the durability of the broker: set it there",
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

    /// What happens to ticks that no scheduler was there for. By default the last of them is made up for.
    pub fn missed(mut self, missed: MissedTicks) -> Self {
        self.missed = missed;
        self
    }

    /// Lets each task wait a random time up to this after its tick. Default none.
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// Sets options of its tasks, as for a [single call](Producer::enqueue). An id or a delay is of no use here.
    pub fn options(mut self, set: impl FnOnce(CallOptions) -> CallOptions) -> Self {
        self.call = set(self.call);
        self
    }

    /// The entry as the broker keeps it.
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

/// Leaves room for the tick in an id.
const MAX_NAME: usize = 200;

/// A task without an id of its own, all of whose times count from when it is enqueued.
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
