//! Changing entries at run time.

use super::{Entry, Rule, ScheduleError, change::change, entry::task_of};
use crate::{
    broker::{NewTask, Pausable, Pause, ScheduleEntry, SharedBroker, When},
    inspector::{ActionKind, Actor, AuditEntry, AuditTarget, record},
    producer::Producer,
    task::{Name, TaskId, TaskRef},
};

/// Changes schedule entries in the broker. All schedulers apply a change within a second.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use asynqueue_core::{memory::MemoryBroker, scheduler::{Entry, Timetable}};
/// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
/// # #[task(event = "report", crate = asynqueue_core)]
/// # struct Report { tenant: String }
///
/// let timetable = Timetable::new(MemoryBroker::new());
/// timetable.put(Entry::new("report-acme", "@daily", Report { tenant: "acme".into() })?).await?;
/// timetable.pause("report-acme").await?;
/// timetable.trigger("report-acme").await?;
/// timetable.resume("report-acme").await?;
/// assert!(timetable.remove("report-acme").await?);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Timetable {
    producer: Producer,
    actor: Option<Actor>,
}

/// The source of entries that were added at run time.
const SOURCE: &str = "runtime";

impl Timetable {
    /// The timetable of `broker`.
    pub fn new(broker: impl Into<SharedBroker>) -> Self {
        Self {
            producer: Producer::new(broker),
            actor: None,
        }
    }

    /// Sets who acts. It is recorded with every [change](crate::inspector::Inspector::audit), and with the entries that it
    /// pauses.
    #[must_use]
    pub fn acting_as(mut self, actor: impl Into<Actor>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// Records a change of an entry.
    async fn record(&self, entry: AuditEntry) {
        record(self.broker(), self.actor.as_ref(), [entry]).await;
    }

    fn broker(&self) -> &SharedBroker {
        self.producer.broker()
    }

    /// Adds an entry, or replaces the one of the same name and keeps whether it is paused. It is next due at the first
    /// tick from now.
    ///
    /// # Errors
    ///
    /// When it is never due, its task is invalid, or the broker cannot be reached.
    pub async fn put(&self, entry: Entry) -> Result<(), ScheduleError> {
        let entry = entry.into_kept(&self.producer, SOURCE)?;
        let name = entry.name.clone();
        let put = |old: Option<&ScheduleEntry>| {
            let paused = old.is_some_and(|old| old.paused);
            Ok(Some(ScheduleEntry {
                paused,
                ..entry.clone()
            }))
        };
        change(self.broker(), &name, put).await?;
        let details = format!("rule {}, event {}", entry.rule, entry.template.event);
        let put = AuditEntry::new(AuditEntry::PUT, AuditTarget::Schedule(name));
        self.record(put.with_details(details)).await;
        Ok(())
    }

    /// Removes an entry with its history. Returns whether it existed.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn remove(&self, name: &str) -> Result<bool, ScheduleError> {
        let removed = self.broker().remove_schedules(&[Name::from(name)]).await?;
        let existed = removed.first().copied().unwrap_or(false);
        if existed {
            self.record(of_entry(ActionKind::Delete, name)).await;
        }
        Ok(existed)
    }

    /// All entries, by name.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn entries(&self) -> Result<Vec<ScheduleEntry>, ScheduleError> {
        Ok(self.broker().schedules().await?)
    }

    /// Pauses an entry: its ticks are not fired until it is resumed. Who paused it and when is
    /// [recorded](crate::inspector::Inspector::pauses), unless it was paused before.
    ///
    /// # Errors
    ///
    /// When the entry does not exist, or the broker cannot be reached.
    pub async fn pause(&self, name: &str) -> Result<(), ScheduleError> {
        self.pause_because(name, "").await
    }

    /// [Pauses](Self::pause) an entry, and records the reason.
    ///
    /// # Errors
    ///
    /// When the entry does not exist, or the broker cannot be reached.
    pub async fn pause_because(
        &self,
        name: &str,
        reason: impl Into<String>,
    ) -> Result<(), ScheduleError> {
        let mut is_new = false;
        let pause = |entry: Option<&ScheduleEntry>| {
            let entry = entry.ok_or_else(|| unknown(name))?;
            is_new = !entry.paused;
            Ok(is_new.then(|| ScheduleEntry {
                paused: true,
                ..entry.clone()
            }))
        };
        let entry = Name::from(name);
        change(self.broker(), &entry, pause).await?;
        if is_new {
            let pause = Pause::new(self.broker().now()).by(self.actor.clone());
            let of = [Pausable::Schedule(entry)];
            let broker = self.broker();
            let pause = pause.because(reason);
            broker.record_pauses(&of, &pause).await?;
            let reason = pause.reason.as_deref().unwrap_or_default();
            let entry = of_entry(ActionKind::Pause, name).because(reason);
            self.record(entry).await;
        }
        Ok(())
    }

    /// Resumes an entry from its next tick. Ticks that passed while it was paused are not made up.
    ///
    /// # Errors
    ///
    /// When the entry does not exist, its rule is invalid, or the broker cannot be reached.
    pub async fn resume(&self, name: &str) -> Result<(), ScheduleError> {
        let mut was_paused = false;
        let resume = |entry: Option<&ScheduleEntry>| {
            let entry = entry.ok_or_else(|| unknown(name))?;
            was_paused = entry.paused;
            if !was_paused {
                return Ok(None);
            }
            let rule: Rule = entry.rule.parse().map_err(|source| ScheduleError::Rule {
                entry: name.to_owned(),
                source,
            })?;
            Ok(Some(ScheduleEntry {
                paused: false,
                next: rule.next_after(self.broker().now()),
                ..entry.clone()
            }))
        };
        change(self.broker(), &Name::from(name), resume).await?;
        if was_paused {
            self.record(of_entry(ActionKind::Resume, name)).await;
        }
        Ok(())
    }

    /// Enqueues an entry's task now, independently of its ticks, even if it is paused.
    ///
    /// # Errors
    ///
    /// When the entry does not exist, its task is refused, or the broker cannot be reached.
    pub async fn trigger(&self, name: &str) -> Result<TaskRef, ScheduleError> {
        let entry = self.broker().schedule(&Name::from(name)).await?;
        let entry = entry.ok_or_else(|| unknown(name))?;
        let now = self.broker().now();
        let id = TaskId::new(format!("{name}@{}", TaskId::generate()))
            .unwrap_or_else(|_| TaskId::generate());
        let envelope = task_of(&entry.template, id, now, now);
        let task = envelope.task_ref();
        let when = When::Now;
        let answer = self
            .broker()
            .enqueue(vec![NewTask::new(envelope, when)])
            .await?;
        answer.into_iter().next().unwrap_or(Ok(()))?;
        let entry = of_entry(ActionKind::Trigger, name).enqueued(&task);
        self.record(entry).await;
        Ok(task)
    }
}

fn of_entry(kind: ActionKind, name: &str) -> AuditEntry {
    AuditEntry::new(kind, AuditTarget::Schedule(name.into()))
}

fn unknown(name: &str) -> ScheduleError {
    ScheduleError::Unknown {
        entry: name.to_owned(),
    }
}
