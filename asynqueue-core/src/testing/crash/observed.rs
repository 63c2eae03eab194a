//! The result of a run, and the differences between two runs.

use std::fmt::{self, Debug};

use serde_json::Value;

use super::report::Difference;
use crate::broker::Inspect;
use crate::{
    broker::{BrokerError, TaskInfo},
    codec::{Codec, CodecName},
    task::{Envelope, TaskState},
    testing::enqueued::all_tasks,
};

/// Formats encoded bytes.
pub(super) type Show = fn(&CodecName, &[u8]) -> String;

/// As JSON if the codec is self-describing, otherwise as bytes.
pub(super) fn show<C: Codec>(codec: &CodecName, encoded: &[u8]) -> String {
    codec.decode::<Value, C>(encoded).map_or_else(
        |_| encoded.escape_ascii().to_string(),
        |value| value.to_string(),
    )
}

/// How a task ended.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    /// With its output, if it has one.
    Completed(Option<String>),
    /// With its last failure.
    Archived(String),
    /// It was revoked.
    Dropped,
}

impl Ending {
    fn is_like(&self, other: &Self, compares: Compares) -> bool {
        match (self, other) {
            (Self::Completed(output), Self::Completed(others)) => {
                !compares.output || output == others
            }
            (Self::Archived(_), Self::Archived(_)) | (Self::Dropped, Self::Dropped) => true,
            _ => false,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed(None) => f.write_str("completed"),
            Self::Completed(Some(output)) => write!(f, "completed with {output}"),
            Self::Archived(failure) => write!(f, "archived: {failure}"),
            Self::Dropped => f.write_str("revoked"),
        }
    }
}

/// What is compared after each run, apart from the world.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compares {
    pub(super) output: bool,
    pub(super) enqueued: bool,
}

/// The result of a run.
pub(super) struct Observed<R> {
    /// The result of the check, or the message of its panic.
    pub(super) world: Result<R, String>,
    /// The enqueued tasks, one per line, sorted.
    pub(super) enqueued: Vec<String>,
    pub(super) ending: Ending,
}

impl<R: PartialEq + Debug> Observed<R> {
    /// The differences between this expected result and another one. Ignores differences of a handler that may still
    /// run again.
    pub(super) fn differences(&self, found: &Self, compares: Compares) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut note = |what, expected, found| {
            differences.push(Difference {
                what,
                expected,
                found,
            });
        };
        if self.world != found.world {
            note("world", show_world(&self.world), show_world(&found.world));
        }
        if compares.enqueued && self.enqueued != found.enqueued {
            let list = |tasks: &[String]| match tasks {
                [] => "nothing".to_owned(),
                tasks => tasks.join("\n"),
            };
            note(
                "enqueued tasks",
                list(&self.enqueued),
                list(&found.enqueued),
            );
        }
        if !self.ending.is_like(&found.ending, compares) {
            note("outcome", self.ending.to_string(), found.ending.to_string());
        }
        differences
    }
}

/// On one line, unless it is long.
fn show_world<R: Debug>(world: &Result<R, String>) -> String {
    const LONG: usize = 100;
    match world {
        Ok(world) => Some(format!("{world:?}"))
            .filter(|line| line.len() <= LONG)
            .unwrap_or_else(|| format!("{world:#?}")),
        Err(message) => format!("the check {message}"),
    }
}

/// The tasks that a handler has enqueued, one per line, sorted. Excludes `own`, the task of the handler, once it has
/// finished.
pub(super) async fn enqueued(
    broker: &(impl Inspect + ?Sized),
    own: &Envelope,
    show: Show,
) -> Result<Vec<String>, BrokerError> {
    let has_ended = |info: &TaskInfo| {
        let ended = [TaskState::Completed, TaskState::Archived].contains(&info.state);
        ended && (&info.envelope.queue, &info.envelope.id) == (&own.queue, &own.id)
    };
    let tasks = all_tasks(broker).await?;
    let others = tasks.iter().filter(|info| !has_ended(info));
    let mut lines: Vec<_> = others.map(|info| line(&info.envelope, show)).collect();
    lines.sort();
    Ok(lines)
}

/// The identity of a task: excludes its id, which is random unless the handler sets it, and its times.
fn line(task: &Envelope, show: Show) -> String {
    let payload = show(&task.codec, &task.payload);
    let key = match &task.unique {
        Some(lock) => format!(", unique key `{}`", lock.key.as_str()),
        None => String::new(),
    };
    format!("{} {payload} in queue `{}`{key}", task.event, task.queue)
}
