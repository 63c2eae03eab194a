//! Entries in a file, which is reloaded when it changes.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use super::{Entry, ScheduleError};
use crate::{
    broker::MissedTicks,
    codec::{Codec, CodecName, MessagePack},
    duration::parse_millis,
    producer::{CallOptions, EnqueueError, Producer},
    task::{Envelope, Name, Task},
};

/// How often to check whether the file has changed.
pub(super) const CHECK_FILES: Duration = Duration::from_secs(2);

/// A schedule file and its content when it was last read.
#[derive(Debug)]
pub(super) struct ScheduleFile {
    path: PathBuf,
    content: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    #[serde(default)]
    schedule: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    rule: String,
    zone: Option<String>,
    event: String,
    payload: Option<toml::Value>,
    queue: Option<String>,
    missed: Option<Missed>,
    jitter: Option<String>,
    max_retry: Option<u32>,
    timeout: Option<String>,
    priority: Option<u8>,
    retention: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Missed {
    Word(String),
    Last(u32),
}

impl ScheduleFile {
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            content: String::new(),
        }
    }

    /// The source of its entries.
    pub(super) fn source(&self) -> String {
        format!("file:{}", self.path.display())
    }

    /// The entries, if the file has changed since it was last read.
    pub(super) fn read_if_changed(&mut self) -> Result<Option<Vec<Entry>>, ScheduleError> {
        let content = std::fs::read_to_string(&self.path)
            .map_err(|error| failed(&self.path, &error.to_string()))?;
        if content == self.content && !content.is_empty() {
            return Ok(None);
        }
        self.content = content;
        let content: Content = toml::from_str(&self.content)
            .map_err(|error| failed(&self.path, &error.to_string()))?;
        let entries = content.schedule.into_iter().map(|row| self.entry(row));
        entries.collect::<Result<_, _>>().map(Some)
    }

    /// Makes the next check read the file even if it has not changed.
    pub(super) fn forget(&mut self) {
        self.content.clear();
    }

    fn entry(&self, row: Row) -> Result<Entry, ScheduleError> {
        let problem = |what: &str, problem: String| {
            failed(
                &self.path,
                &format!("entry `{}`: {what}: {problem}", row.name),
            )
        };
        let duration = |what: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => match parse_millis(text) {
                Ok(millis) => Ok(Some(Duration::from_millis(millis))),
                Err(reason) => Err(problem(what, format!("`{text}`: {reason}"))),
            },
        };
        let (jitter, timeout, retention) = (
            duration("jitter", &row.jitter)?,
            duration("timeout", &row.timeout)?,
            duration("retention", &row.retention)?,
        );
        let missed = match &row.missed {
            None => MissedTicks::default(),
            Some(Missed::Last(count)) => MissedTicks::Last(*count),
            Some(Missed::Word(word)) => match word.as_str() {
                "skip" => MissedTicks::Skip,
                "once" => MissedTicks::Once,
                other => {
                    let expected = "expected \"skip\", \"once\" or a number";
                    return Err(problem("missed", format!("`{other}`: {expected}")));
                }
            },
        };
        let payload = row.payload.clone();
        let payload = payload.unwrap_or_else(|| toml::Value::Table(toml::Table::new()));
        let payload = MessagePack::encode(&payload);
        let payload = payload.map_err(|error| problem("payload", error.to_string()))?;
        let event = Name::from(row.event.as_str());
        let build =
            move |call: CallOptions, producer: &Producer| build(call, producer, event, payload);
        let rule = match &row.zone {
            Some(zone) => format!("TZ={zone} {}", row.rule),
            None => row.rule.clone(),
        };
        let entry = Entry::with_build(&row.name, &rule, Box::new(build))
            .map_err(|error| failed(&self.path, &error.to_string()))?;
        Ok(entry
            .missed(missed)
            .jitter(jitter.unwrap_or_default())
            .options(|mut call| {
                if let Some(queue) = row.queue {
                    call = call.queue(queue);
                }
                if let Some(max_retry) = row.max_retry {
                    call = call.max_retry(max_retry);
                }
                if let Some(timeout) = timeout {
                    call = call.timeout(timeout);
                }
                if let Some(priority) = row.priority {
                    call = call.priority(priority);
                }
                if let Some(retention) = retention {
                    call = call.retention(retention);
                }
                call
            }))
    }
}

/// The task of a row. Its options are checked like those of any task; its payload is taken from the file.
fn build(
    call: CallOptions,
    producer: &Producer,
    event: Name,
    payload: Vec<u8>,
) -> Result<Envelope, EnqueueError> {
    let mut envelope = call.build(producer, &Untyped)?.envelope;
    envelope.event = event;
    envelope.codec = CodecName::of::<MessagePack>();
    envelope.payload = payload.into();
    producer.check_size(&envelope)?;
    Ok(envelope)
}

/// Stands in for a payload of unknown type.
#[derive(serde::Serialize, Deserialize)]
struct Untyped;

impl Task for Untyped {
    const EVENT: &'static str = "scheduled from a file";
    type Output = ();
    type Codec = MessagePack;
}

fn failed(path: &Path, problem: &str) -> ScheduleError {
    ScheduleError::File {
        path: path.display().to_string(),
        problem: problem.trim_end().to_owned(),
    }
}
