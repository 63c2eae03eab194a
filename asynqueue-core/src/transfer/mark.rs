//! The mark of a task that is being moved: a header that names the move and keeps what the move has changed.
//!
//! A marked task has an event that no handler has, and waits for a time that does not come. So it runs neither at the
//! source nor at the target, even if an operator makes it pending.

use std::{sync::Arc, time::Duration};

use crate::{
    broker::{Apart, Part, TaskInfo, TaskPlace},
    task::{Envelope, Name, TaskId, TaskState, Timestamp},
};

/// The header of a marked task.
pub(super) const HEADER: &str = "asynqueue-moving";

/// The event of a marked task.
pub(super) const EVENT: Name = Name::from_static("asynqueue:moving");

/// When marked tasks are due: at the end of the year 9999, in their order.
const NEVER: Timestamp = Timestamp::from_millis(253_402_300_799_000);

/// What the header of a marked task says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The id of the move.
    pub(super) id: Name,
    /// Where the task was. Never completed.
    pub(super) place: TaskPlace,
    /// The place of the task in its batch. The tasks that a dead process has left are moved in this order.
    pub(super) order: u64,
    /// The event of the task.
    event: Name,
}

impl Mark {
    /// The mark of a task, if it has one.
    pub(super) fn of(envelope: &Envelope) -> Option<Self> {
        if envelope.event != EVENT {
            return None;
        }
        let mut parts = envelope.headers.get(HEADER)?.splitn(4, ' ');
        Some(Self {
            id: parts.next()?.into(),
            order: parts.next()?.parse().ok()?,
            place: read_place(parts.next()?)?,
            event: parts.next()?.into(),
        })
    }

    /// The task with a mark. `None` for a completed task, which needs none.
    pub(super) fn put(
        id: &Name,
        order: u64,
        envelope: &Envelope,
        place: &TaskPlace,
    ) -> Option<Arc<Envelope>> {
        let mut marked = envelope.clone();
        let event = std::mem::replace(&mut marked.event, EVENT);
        let header = format!("{id} {order} {} {event}", write_place(place)?);
        marked.headers.insert(HEADER, header);
        Some(Arc::new(marked))
    }

    /// The task without its mark.
    pub(super) fn take_off(&self, marked: &Envelope) -> Arc<Envelope> {
        let mut envelope = marked.clone();
        envelope.event = self.event.clone();
        envelope.headers.remove(HEADER);
        Arc::new(envelope)
    }

    /// When marked tasks with this place in their batch are due.
    pub(super) fn due(order: u64) -> Timestamp {
        NEVER + Duration::from_millis(order)
    }

    /// Where the marked task waits at the target. An archived task does not run by itself, and a task that waits for a
    /// retry has other locks than a scheduled one.
    pub(super) fn held_place(&self) -> TaskPlace {
        match &self.place {
            TaskPlace::Retry { .. } => TaskPlace::Retry {
                due: Self::due(self.order),
            },
            TaskPlace::Archived { at } => TaskPlace::Archived { at: *at },
            _ => TaskPlace::Scheduled {
                due: Self::due(self.order),
            },
        }
    }

    /// Whether the marked task is where the move has put it at the source.
    pub(super) fn is_fenced(&self, found: &TaskInfo) -> bool {
        match self.place {
            TaskPlace::Archived { at } => found.place() == Some(TaskPlace::Archived { at }),
            _ => found.state == TaskState::Scheduled && found.at == Some(Self::due(self.order)),
        }
    }

    /// Whether the marked task is where the move has put it at the target.
    pub(super) fn is_held(&self, found: &TaskInfo) -> bool {
        found.place() == Some(self.held_place())
    }
}

/// A place as text without spaces: the state, its time, and of a member that was set apart the delay, the tries and the
/// first member.
fn write_place(place: &TaskPlace) -> Option<String> {
    let time = match place {
        TaskPlace::Pending { since } | TaskPlace::Aggregating { since, .. } => since,
        TaskPlace::Scheduled { due } | TaskPlace::Retry { due } => due,
        TaskPlace::Archived { at } => at,
        TaskPlace::Completed { .. } => return None,
    };
    let text = format!("{}:{}", place.state(), time.as_millis());
    Some(match place {
        TaskPlace::Aggregating {
            apart: Some(Apart { part, delay }),
            ..
        } => format!("{text}:{}:{}:{}", delay.as_millis(), part.tries, part.first),
        _ => text,
    })
}

fn read_place(text: &str) -> Option<TaskPlace> {
    let mut parts = text.splitn(5, ':');
    let state = parts.next()?;
    let time = Timestamp::from_millis(parts.next()?.parse().ok()?);
    let apart = match parts.next() {
        None => None,
        Some(delay) => {
            let delay = Duration::from_millis(delay.parse().ok()?);
            let tries = parts.next()?.parse().ok()?;
            let first = TaskId::new(parts.next()?).ok()?;
            let part = Part { first, tries };
            Some(Apart { part, delay })
        }
    };
    let state = TaskState::ALL
        .into_iter()
        .find(|known| known.as_str() == state)?;
    Some(match state {
        TaskState::Pending => TaskPlace::Pending { since: time },
        TaskState::Scheduled => TaskPlace::Scheduled { due: time },
        TaskState::Retry => TaskPlace::Retry { due: time },
        TaskState::Archived => TaskPlace::Archived { at: time },
        TaskState::Aggregating => TaskPlace::Aggregating { since: time, apart },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::codec::{CodecName, MessagePack};

    fn task() -> Envelope {
        let codec = CodecName::of::<MessagePack>();
        let mut task = Envelope::new(
            TaskId::generate(),
            "an event: with words",
            codec,
            Bytes::new(),
        );
        task.headers.insert("own", "kept");
        task
    }

    fn places() -> Vec<TaskPlace> {
        let time = Timestamp::from_millis(1_700_000_000_123);
        let apart = Apart {
            part: Part {
                first: TaskId::new("a:b:c").expect("an id"),
                tries: 3,
            },
            delay: Duration::from_millis(1_500),
        };
        vec![
            TaskPlace::Pending { since: time },
            TaskPlace::Scheduled { due: time },
            TaskPlace::Retry { due: time },
            TaskPlace::Archived { at: time },
            TaskPlace::Aggregating {
                since: time,
                apart: None,
            },
            TaskPlace::Aggregating {
                since: time,
                apart: Some(apart),
            },
        ]
    }

    #[test]
    fn a_mark_keeps_the_task_and_its_place() {
        let (id, task) = (Name::from("a1b2"), task());
        for place in places() {
            let marked = Mark::put(&id, 7, &task, &place).expect("a mark");
            let stored =
                Envelope::from_bytes(task.queue.clone(), task.id.clone(), &marked.to_bytes());
            let stored = stored.expect("readable");
            let mark = Mark::of(&stored).expect("a mark");
            assert_eq!((&mark.id, &mark.place), (&id, &place));
            assert_eq!(*mark.take_off(&stored), task);
        }
        assert_eq!(Mark::of(&task), None);
    }

    #[test]
    fn a_completed_task_has_no_mark() {
        let until = Timestamp::default();
        let place = TaskPlace::Completed {
            until,
            result: None,
        };
        assert_eq!(Mark::put(&"a1b2".into(), 7, &task(), &place), None);
    }
}
