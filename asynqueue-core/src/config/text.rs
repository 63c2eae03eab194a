//! Parses TOML and JSON into a tree of settings.

use std::{borrow::Cow, fmt, ops::Range};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::document::{Content, Fault, Key, Node, Place};

/// The format of a settings file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    Toml,
    Json,
}

/// Parses text.
pub(super) fn parse(format: Format, text: &str) -> Result<Node, Fault> {
    match format {
        Format::Toml => toml_table(text),
        Format::Json => json_document(text),
    }
}

/// The line and column of a byte offset, both from 1.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before[start..].chars().count() + 1)
}

fn toml_table(text: &str) -> Result<Node, Fault> {
    let table = DeTable::parse(text).map_err(|error| {
        let span = error.span().unwrap_or_default();
        // The parser's `Display` output also contains the line, which may contain a password.
        Fault::new(place(&span), error.message().trim().replace('\n', ": "))
    })?;
    let span = table.span();
    Ok(Node {
        place: place(&span),
        content: toml_entries(table.into_inner()),
    })
}

fn place(span: &Range<usize>) -> Place {
    Place::Text(span.start)
}

fn toml_entries(table: DeTable<'_>) -> Content {
    let entry = |(key, value): (Spanned<Cow<'_, str>>, Spanned<DeValue<'_>>)| {
        let key_place = place(&key.span());
        let name = key.into_inner().into_owned();
        let key = Key {
            place: key_place,
            name,
        };
        (key, toml_value(value))
    };
    Content::Table(table.into_iter().map(entry).collect())
}

fn toml_value(value: Spanned<DeValue<'_>>) -> Node {
    let place = place(&value.span());
    let content = match value.into_inner() {
        DeValue::String(text) => Content::Text(text.into_owned()),
        DeValue::Integer(number) => {
            let (digits, radix) = (number.as_str(), number.radix());
            match i64::from_str_radix(digits, radix) {
                Ok(number) => Content::Integer(number),
                Err(_) => Content::Other("an integer of more than 64 bits"),
            }
        }
        DeValue::Float(number) => match number.as_str().parse() {
            Ok(number) => Content::Float(number),
            Err(_) => Content::Other("a floating point number"),
        },
        DeValue::Boolean(flag) => Content::Flag(flag),
        DeValue::Datetime(_) => Content::Other("a date or time"),
        DeValue::Array(items) => Content::List(items.into_iter().map(toml_value).collect()),
        DeValue::Table(table) => toml_entries(table),
    };
    Node { place, content }
}

fn json_document(text: &str) -> Result<Node, Fault> {
    let root: &RawValue = serde_json::from_str(text).map_err(|error| {
        let lines = text.split_inclusive('\n').take(error.line().max(1) - 1);
        let line = lines.map(str::len).sum::<usize>();
        let mut offset = (line + error.column().max(1) - 1).min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let message = error.to_string();
        // The place is added in our own format.
        let (problem, _) = message.rsplit_once(" at line ").unwrap_or((&message, ""));
        Fault::new(Place::Text(offset), problem)
    })?;
    json_value(text, root)
}

/// The offset of a value, which is a slice of the text.
fn offset(text: &str, part: &RawValue) -> usize {
    let place = part.get().as_ptr().addr();
    place.saturating_sub(text.as_ptr().addr())
}

fn json_value(text: &str, raw: &RawValue) -> Result<Node, Fault> {
    let place = Place::Text(offset(text, raw));
    let invalid = |error: serde_json::Error| Fault::new(place.clone(), error.to_string());
    let json = raw.get();
    let content = match json.as_bytes().first() {
        Some(b'{') => {
            let Members(members) = serde_json::from_str(json).map_err(invalid)?;
            json_entries(text, members)?
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(json).map_err(invalid)?;
            let items = items.into_iter().map(|item| json_value(text, item));
            Content::List(items.collect::<Result<_, _>>()?)
        }
        Some(b'"') => Content::Text(serde_json::from_str(json).map_err(invalid)?),
        Some(b't') => Content::Flag(true),
        Some(b'f') => Content::Flag(false),
        Some(b'n') => Content::Other("null"),
        _ => match (json.parse(), json.parse()) {
            (Ok(number), _) => Content::Integer(number),
            (_, Ok(number)) => Content::Unsigned(number),
            _ => Content::Float(serde_json::from_str(json).map_err(invalid)?),
        },
    };
    Ok(Node { place, content })
}

fn json_entries(text: &str, members: Vec<(String, &RawValue)>) -> Result<Content, Fault> {
    let mut entries: Vec<(Key, Node)> = Vec::with_capacity(members.len());
    for (name, value) in members {
        // The parser gives no place for keys. That of the value is usually on the same line.
        let place = Place::Text(offset(text, value));
        if entries.iter().any(|(known, _)| known.name == name) {
            return Err(Fault::new(place, format!("`{name}` is set twice")));
        }
        entries.push((Key { place, name }, json_value(text, value)?));
    }
    Ok(Content::Table(entries))
}

/// The members of an object in order, including duplicates.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok::<_, A::Error>(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_lines_and_columns_in_characters() {
        let text = "a = 1\nö = 2\n";
        assert_eq!(line_and_column(text, 0), (1, 1));
        assert_eq!(line_and_column(text, 4), (1, 5));
        assert_eq!(
            line_and_column(text, text.find('2').expect("there")),
            (2, 5)
        );
    }

    #[test]
    fn a_json_error_has_its_exact_place() {
        for (json, place) in [
            ("{\"a\": 1,\n \"b\": }", (2, 7)),
            ("{\"a\": 1,\n \"a\": 2}", (2, 7)),
            ("", (1, 1)),
        ] {
            let fault = parse(Format::Json, json).expect_err(json);
            let Some(Place::Text(offset)) = fault.place else {
                panic!("a place in the text: {fault:?}");
            };
            assert_eq!(line_and_column(json, offset), place, "{json}: {fault}");
        }
    }
}
