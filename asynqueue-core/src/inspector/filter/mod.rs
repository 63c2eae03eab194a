//! Filters for lists of tasks.

mod parse;

use std::{cell::LazyCell, time::Duration};

pub use self::parse::InvalidFilter;
pub(super) use self::parse::{Term, quoted};
use crate::{broker::TaskInfo, failure::Fingerprint, task::Timestamp};

/// Conditions on tasks, all of which must hold. The default matches every task.
///
/// As text, a filter is a list of terms separated by white space:
///
/// | term | matches tasks |
/// |---|---|
/// | `event=email:welcome` | of this event; `event=email:*` of all events with this prefix |
/// | `id=order-*` | with this id; with a `*` at the end, with this prefix |
/// | `header.tenant=acme` | with this header |
/// | `payload~"some text"` | whose payload, as JSON, contains this text, ignoring case |
/// | `error~timeout` | with a failure of this kind, or whose message contains this text |
/// | `cause=1f0c62a8b3d94e57` | whose last failure has this [fingerprint](Fingerprint) |
/// | `text~1000123` | with this text in the id, event, payload, a header or a failure, ignoring case |
/// | `age>1h`, `age<5m` | enqueued more, or less, than this time ago |
///
/// ```
/// use asynqueue_core::inspector::Filter;
///
/// let filter: Filter = "event=email:* age>1h error~\"no route\"".parse()?;
/// assert_eq!(filter, Filter::default().event("email:*").older_than(std::time::Duration::from_secs(3600)).error("no route"));
/// # Ok::<(), asynqueue_core::inspector::InvalidFilter>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    event: Option<String>,
    id: Option<String>,
    headers: Vec<(String, String)>,
    payload: Option<String>,
    error: Option<String>,
    cause: Option<Fingerprint>,
    text: Vec<String>,
    older_than: Option<Duration>,
    younger_than: Option<Duration>,
}

impl Filter {
    /// Matches tasks of this event. With a `*` at the end, it is a prefix.
    #[must_use]
    pub fn event(mut self, event: impl Into<String>) -> Self {
        self.event = Some(event.into());
        self
    }

    /// Matches tasks with this id. With a `*` at the end, it is a prefix.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Matches tasks with this header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Matches tasks whose payload contains this text.
    #[must_use]
    pub fn payload(mut self, text: impl Into<String>) -> Self {
        self.payload = Some(text.into());
        self
    }

    /// Matches tasks with a failure of this kind or with this text in its message.
    #[must_use]
    pub fn error(mut self, text: impl Into<String>) -> Self {
        self.error = Some(text.into());
        self
    }

    /// Matches tasks whose last failure has this cause.
    #[must_use]
    pub fn cause(mut self, cause: Fingerprint) -> Self {
        self.cause = Some(cause);
        self
    }

    /// Matches tasks with this text anywhere: in the id, the event, the payload, a header or a failure. Of several texts,
    /// each has to be somewhere.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text.push(text.into());
        self
    }

    /// The texts that may be [anywhere](Self::text) in a task.
    pub fn texts(&self) -> &[String] {
        &self.text
    }

    /// Matches tasks enqueued more than this time ago.
    #[must_use]
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older_than = Some(age);
        self
    }

    /// Matches tasks enqueued less than this time ago.
    #[must_use]
    pub fn younger_than(mut self, age: Duration) -> Self {
        self.younger_than = Some(age);
        self
    }

    /// Whether it matches every task.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a task matches. `payload` returns its payload, and is called only if needed.
    pub fn matches(
        &self,
        task: &TaskInfo,
        now: Timestamp,
        payload: impl FnOnce() -> String,
    ) -> bool {
        let envelope = &task.envelope;
        let is = |pattern: &Option<String>, text: &str| {
            pattern.as_ref().is_none_or(|pattern| fits(pattern, text))
        };
        let age = now.since(envelope.enqueued_at);
        let has = |(name, value): &(String, String)| envelope.headers.get(name) == Some(value);
        let failed = |text: &String| {
            let mut failures = envelope.failures().iter();
            failures.any(|failure| {
                contains(&failure.message, text) || contains(failure.kind.as_str(), text)
            })
        };
        let payload = LazyCell::new(payload);
        let anywhere = |text: &String| {
            let mut headers = envelope.headers.iter();
            contains(envelope.id.as_str(), text)
                || contains(&envelope.event, text)
                || headers.any(|(name, value)| contains(name, text) || contains(value, text))
                || failed(text)
                || contains(&payload, text)
        };
        is(&self.event, &envelope.event)
            && is(&self.id, envelope.id.as_str())
            && self.headers.iter().all(has)
            && self.older_than.is_none_or(|limit| age > limit)
            && self.younger_than.is_none_or(|limit| age < limit)
            && self.error.as_ref().is_none_or(failed)
            && (self.cause).is_none_or(|cause| Fingerprint::of_task(envelope) == Some(cause))
            && (self.payload.as_ref()).is_none_or(|text| contains(&payload, text))
            && self.text.iter().all(anywhere)
    }
}

fn fits(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => text.starts_with(prefix),
        None => text == pattern,
    }
}

fn contains(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(&part.to_lowercase())
}
