//! Filters for lists of tasks.

use std::{fmt, str::FromStr, time::Duration};

use super::meant::{meant, meant_by_word};
use crate::{
    broker::TaskInfo,
    duration::{format_millis, parse_millis},
    failure::Fingerprint,
    task::Timestamp,
};

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
        is(&self.event, &envelope.event)
            && is(&self.id, envelope.id.as_str())
            && self.headers.iter().all(has)
            && self.older_than.is_none_or(|limit| age > limit)
            && self.younger_than.is_none_or(|limit| age < limit)
            && self.error.as_ref().is_none_or(failed)
            && (self.cause).is_none_or(|cause| Fingerprint::of_task(envelope) == Some(cause))
            && (self.payload.as_ref()).is_none_or(|text| contains(&payload(), text))
    }

    fn add(&mut self, term: &Term<'_>) -> Result<(), InvalidFilter> {
        let text = |found: &mut Option<String>| match found.replace(term.value.clone()) {
            Some(_) => Err(term.invalid("the term is set twice")),
            None => Ok(()),
        };
        let age = |found: &mut Option<Duration>| {
            let millis = parse_millis(&term.value).map_err(|error| term.invalid(error))?;
            match found.replace(Duration::from_millis(millis)) {
                Some(_) => Err(term.invalid("the term is set twice")),
                None => Ok(()),
            }
        };
        match (term.field, term.operator) {
            ("event", '=') => text(&mut self.event),
            ("id", '=') => text(&mut self.id),
            ("payload", '~') => text(&mut self.payload),
            ("error", '~') => text(&mut self.error),
            ("cause", '=') => {
                let cause = term.value.parse().map_err(|error| term.invalid(error))?;
                match self.cause.replace(cause) {
                    Some(_) => Err(term.invalid("the term is set twice")),
                    None => Ok(()),
                }
            }
            ("age", '>') => age(&mut self.older_than),
            ("age", '<') => age(&mut self.younger_than),
            (field, '=') if field.len() > 7 && field.starts_with("header.") => {
                self.headers
                    .push((field[7..].to_owned(), term.value.clone()));
                Ok(())
            }
            _ => Err(term.invalid(meant(term))),
        }
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

/// The error for text that is not a filter.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid filter: `{term}` at character {position}: {problem}")]
pub struct InvalidFilter {
    term: String,
    /// Where the term starts, in characters from 1.
    pub position: usize,
    problem: String,
}

crate::debug_as_text!(InvalidFilter);

/// A field, an operator and a value.
pub(super) struct Term<'a> {
    pub(super) field: &'a str,
    pub(super) operator: char,
    pub(super) value: String,
    text: &'a str,
    position: usize,
}

impl Term<'_> {
    fn invalid(&self, problem: impl fmt::Display) -> InvalidFilter {
        InvalidFilter {
            term: self.text.to_owned(),
            position: self.position,
            problem: problem.to_string(),
        }
    }
}

impl FromStr for Filter {
    type Err = InvalidFilter;

    fn from_str(text: &str) -> Result<Self, InvalidFilter> {
        let mut filter = Self::default();
        let mut rest = text;
        loop {
            rest = rest.trim_start();
            if rest.is_empty() {
                return Ok(filter);
            }
            let position = text[..text.len() - rest.len()].chars().count() + 1;
            let (term, left) = read_term(rest, position)?;
            filter.add(&term)?;
            rest = left;
        }
    }
}

/// Parses the term at the start of a text.
fn read_term(text: &str, position: usize) -> Result<(Term<'_>, &str), InvalidFilter> {
    let word = text.split(char::is_whitespace).next().unwrap_or(text);
    let mut term = Term {
        field: word,
        operator: ' ',
        value: String::new(),
        text: word,
        position,
    };
    let Some(end) = word.find(['=', '~', '<', '>']) else {
        return Err(term.invalid(meant_by_word(word)));
    };
    term.field = &text[..end];
    term.operator = text[end..].chars().next().unwrap_or(' ');
    let value = &text[end + 1..];
    let length = if value.starts_with('"') {
        let unended = || term.invalid("the closing quotation mark is missing");
        let (unquoted, length) = unquote(value).ok_or_else(unended)?;
        term.value = unquoted;
        length
    } else {
        let value = &word[end + 1..];
        term.value = value.to_owned();
        value.len()
    };
    let (whole, rest) = text.split_at(end + 1 + length);
    term.text = whole;
    if term.value.is_empty() {
        return Err(term.invalid("a value is missing"));
    }
    Ok((term, rest))
}

/// Parses the quoted text at the start of a text. Returns it with its length, including the quotation marks.
fn unquote(text: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, at + 1)),
            '\\' => value.push(chars.next()?.1),
            char => value.push(char),
        }
    }
    None
}

/// A value as it is written in a term.
pub(super) fn quoted(value: &str) -> String {
    let plain =
        !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || c == '"' || c == '\\');
    if plain {
        value.to_owned()
    } else {
        format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut terms = Vec::new();
        let mut add = |name: &str, value: &Option<String>| {
            let term = |value: &String| format!("{name}{}", quoted(value));
            terms.extend(value.as_ref().map(term));
        };
        add("event=", &self.event);
        add("id=", &self.id);
        for (name, value) in &self.headers {
            add(&format!("header.{name}="), &Some(value.clone()));
        }
        add("payload~", &self.payload);
        add("error~", &self.error);
        add("cause=", &self.cause.map(|cause| cause.to_string()));
        let age = |age: Duration| format_millis(age.as_millis() as u64);
        add("age>", &self.older_than.map(age));
        add("age<", &self.younger_than.map(age));
        f.write_str(&terms.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*};

    use super::*;
    use crate::task::FailureKind;

    fn refused(text: &str) -> String {
        Filter::from_str(text).expect_err(text).to_string()
    }

    #[test]
    fn an_error_has_its_position() {
        assert!(refused("event=a evnt=b").contains("`evnt=b` at character 9: expected `event=b`"));
        assert!(refused("ä=1 b").contains("`ä=1` at character 1"));
        assert!(refused("welcome").contains("`welcome` at character 1: expected `payload~"));
        assert!(refused("cause=12").contains("`12`: expected 16 hexadecimal digits"));
        assert!(refused("age>soon").contains("`age>soon`"));
        assert!(refused("payload~\"open").contains("the closing quotation mark is missing"));
        assert!(refused("event=").contains("a value is missing"));
        assert!(
            refused("event=a event=b").contains("`event=b` at character 9: the term is set twice")
        );
    }

    /// A list of all terms does not show which one was meant.
    #[test]
    fn an_error_shows_the_term_that_was_probably_meant() {
        for (typed, meant) in [
            ("eror~timeout", "`error~timeout`"),
            ("errors=timeout", "`error~timeout`"),
            ("Event=a", "`event=a`"),
            ("evetn=a", "`event=a`"),
            ("event~a", "`event=a`"),
            ("payload=\"no route\"", "`payload~\"no route\"`"),
            ("age=5m", "`age>5m` or `age<5m`"),
            ("headers.tenant=acme", "`header.tenant=acme`"),
            ("header.tenant~acme", "`header.tenant=acme`"),
            ("header=acme", "`header.NAME=acme`"),
            ("header.=acme", "`header.NAME=acme`"),
            ("error", "`error~` and a value"),
            (
                "1000123",
                "`payload~1000123`, `id=1000123`, `event=1000123` or `error~1000123`",
            ),
        ] {
            let error = refused(typed);
            let (_, expected) = error.split_once(": expected ").expect("what to write");
            assert_eq!(expected, meant, "{typed}");
        }
        for (typed, part) in [
            ("tenant=acme", "; for a header, `header.tenant=acme`"),
            ("name~x", "one of `event=`, `id=`, `header.NAME=`, "),
            ("\"no route\"", "`payload~\"no"),
        ] {
            let error = refused(typed);
            assert!(error.contains(part), "{error}");
        }
    }

    fn text() -> impl Strategy<Value = String> {
        "[ a-c\"\\\\=~*ä]{1,6}"
    }

    fn age() -> impl Strategy<Value = Option<Duration>> {
        option::of((0..10_000_000_u64).prop_map(Duration::from_millis))
    }

    proptest! {
        #[test]
        fn a_filter_is_parsed_from_its_text(
            (event, id, payload, error) in (option::of(text()), option::of(text()), option::of(text()), option::of(text())),
            cause in option::of("[a-z]"),
            headers in prop::collection::vec(("[a-c.]{1,3}", text()), 0..3),
            (older_than, younger_than) in (age(), age()),
        ) {
            let cause = cause.map(|message: String| Fingerprint::of("e", FailureKind::Error, &message));
            let filter = Filter { event, id, headers, payload, error, cause, older_than, younger_than };
            prop_assert_eq!(Filter::from_str(&filter.to_string()), Ok(filter));
        }
    }
}
