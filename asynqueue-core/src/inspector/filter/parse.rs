//! Filters as text.

use std::{fmt, str::FromStr, time::Duration};

use super::{
    super::meant::{meant, meant_by_word},
    Filter,
};
use crate::duration::{format_millis, parse_millis};

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
pub(in crate::inspector) struct Term<'a> {
    pub(in crate::inspector) field: &'a str,
    pub(in crate::inspector) operator: char,
    pub(in crate::inspector) value: String,
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

impl Filter {
    /// The filter of what a person types into a search box: terms, words, and phrases in quotation marks. A word or a
    /// phrase may be [anywhere](Self::text) in a task.
    ///
    /// ```
    /// use asynqueue_core::inspector::Filter;
    ///
    /// let filter = Filter::search("1000123 \"no route\" header.tenant=acme")?;
    /// assert_eq!(filter.to_string(), "header.tenant=acme text~1000123 text~\"no route\"");
    /// # Ok::<(), asynqueue_core::inspector::InvalidFilter>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When a word has an operator but is not a term, such as `eror~timeout`. In quotation marks it is a phrase.
    pub fn search(text: &str) -> Result<Self, InvalidFilter> {
        Self::read(text, true)
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
            ("text", '~') => {
                self.text.push(term.value.clone());
                Ok(())
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

    /// Parses terms, and also words where they are allowed.
    fn read(text: &str, with_words: bool) -> Result<Self, InvalidFilter> {
        let mut filter = Self::default();
        let mut rest = text;
        loop {
            rest = rest.trim_start();
            if rest.is_empty() {
                return Ok(filter);
            }
            if let Some((word, left)) = read_word(rest).filter(|_| with_words) {
                filter.text.push(word);
                rest = left;
                continue;
            }
            let position = text[..text.len() - rest.len()].chars().count() + 1;
            let (term, left) = read_term(rest, position)?;
            filter.add(&term)?;
            rest = left;
        }
    }
}

impl FromStr for Filter {
    type Err = InvalidFilter;

    fn from_str(text: &str) -> Result<Self, InvalidFilter> {
        Self::read(text, false)
    }
}

/// Parses the word or phrase at the start of a text. `None` if it is empty or a term.
fn read_word(text: &str) -> Option<(String, &str)> {
    if text.starts_with('"') {
        let (phrase, length) = unquote(text).filter(|(phrase, _)| !phrase.is_empty())?;
        return Some((phrase, &text[length..]));
    }
    let word = text.split(char::is_whitespace).next()?;
    let is_word = !word.contains(['=', '~', '<', '>', '"']);
    is_word.then(|| (word.to_owned(), &text[word.len()..]))
}

const UNENDED: &str = "the closing quotation mark is missing";

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
    if text.starts_with('"') && unquote(text).is_none() {
        return Err(term.invalid(UNENDED));
    }
    let Some(end) = word.find(['=', '~', '<', '>']) else {
        return Err(term.invalid(meant_by_word(word)));
    };
    term.field = &text[..end];
    term.operator = text[end..].chars().next().unwrap_or(' ');
    let value = &text[end + 1..];
    let length = if value.starts_with('"') {
        let unended = || term.invalid(UNENDED);
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
pub(in crate::inspector) fn quoted(value: &str) -> String {
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
        for text in &self.text {
            add("text~", &Some(text.clone()));
        }
        add("age>", &self.older_than.map(age));
        add("age<", &self.younger_than.map(age));
        f.write_str(&terms.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*};

    use super::*;
    use crate::{failure::Fingerprint, task::FailureKind};

    fn refused(text: &str) -> String {
        Filter::from_str(text).expect_err(text).to_string()
    }

    #[test]
    fn words_of_a_search_may_be_anywhere_and_terms_keep_their_meaning() {
        let read = |text| Filter::search(text).map(|filter| filter.to_string());
        for (typed, filter) in [
            ("1000123", "text~1000123"),
            ("  a\tb ", "text~a text~b"),
            ("\"no route\" x", "text~\"no route\" text~x"),
            ("\"a=b\"", "text~a=b"),
            ("event=mail:* acme age>1h", "event=mail:* text~acme age>1h"),
            ("", ""),
        ] {
            assert_eq!(read(typed).as_deref(), Ok(filter), "{typed}");
        }
        for typed in ["eror~x", "a=b", "\"open", "\"\"", "event="] {
            assert!(read(typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn an_error_has_its_position() {
        let unended = Filter::search("a \"no route")
            .expect_err("no end")
            .to_string();
        assert!(unended.contains("`\"no` at character 3: the closing quotation mark is missing"));
        assert!(refused("event=a evnt=b").contains("`evnt=b` at character 9: expected `event=b`"));
        assert!(refused("ä=1 b").contains("`ä=1` at character 1"));
        assert!(refused("welcome").contains("`welcome` at character 1: expected `text~"));
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
                "`text~1000123`, `id=1000123`, `event=1000123` or `error~1000123`",
            ),
        ] {
            let error = refused(typed);
            let (_, expected) = error.split_once(": expected ").expect("what to write");
            assert_eq!(expected, meant, "{typed}");
        }
        for (typed, part) in [
            ("tenant=acme", "; for a header, `header.tenant=acme`"),
            ("name~x", "one of `event=`, `id=`, `header.NAME=`, "),
            ("\"no route\"", "`text~\"no"),
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
            texts in prop::collection::vec(text(), 0..3),
            (older_than, younger_than) in (age(), age()),
        ) {
            let cause = cause.map(|message: String| Fingerprint::of("e", FailureKind::Error, &message));
            let filter = Filter { event, id, headers, payload, error, cause, text: texts, older_than, younger_than };
            prop_assert_eq!(Filter::from_str(&filter.to_string()), Ok(filter));
        }
    }
}
