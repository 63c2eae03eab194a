//! What an invalid term of a filter probably meant, for its error.

use super::filter::{Term, quoted};
use crate::suggest::closest_within;

/// The fields with their operators. A header has its name in the field.
const FIELDS: [(&str, &[char]); 8] = [
    ("event", &['=']),
    ("id", &['=']),
    ("header", &['=']),
    ("payload", &['~']),
    ("error", &['~']),
    ("text", &['~']),
    ("cause", &['=']),
    ("age", &['>', '<']),
];

/// What to write instead of a term with an unknown field or another operator.
pub(super) fn meant(term: &Term<'_>) -> String {
    let (field, name) = match term.field.split_once('.') {
        Some((field, name)) => (field, Some(name)),
        None => (term.field, None),
    };
    let known = FIELDS.iter().map(|(field, _)| *field);
    // In a short field, two typos make another word.
    let limit = if field.chars().count() < 5 { 1 } else { 2 };
    let nearest = closest_within(field, known, limit);
    let found = FIELDS.iter().find(|(known, _)| Some(*known) == nearest);
    let value = quoted(&term.value);
    match found {
        Some(("header", _)) => {
            let name = name.filter(|name| !name.is_empty()).unwrap_or("NAME");
            format!("expected `header.{name}={value}`")
        }
        Some((field, operators)) => {
            let terms = operators
                .iter()
                .map(|sign| format!("`{field}{sign}{value}`"));
            format!("expected {}", terms.collect::<Vec<_>>().join(" or "))
        }
        None if term.operator == '=' && !field.is_empty() => {
            let header = format!("`header.{}={value}`", term.field);
            format!("expected {}; for a header, {header}", all())
        }
        None => format!("expected {}", all()),
    }
}

/// What to write instead of a word without an operator.
pub(super) fn meant_by_word(word: &str) -> String {
    let mut fields = FIELDS.iter();
    if let Some((field, operators)) = fields.find(|(field, _)| word.eq_ignore_ascii_case(field)) {
        let name = if *field == "header" { ".NAME" } else { "" };
        let terms = operators
            .iter()
            .map(|sign| format!("`{field}{name}{sign}`"));
        return format!(
            "expected {} and a value",
            terms.collect::<Vec<_>>().join(" or ")
        );
    }
    // A word that starts with a quotation mark continues after the space.
    let value = match word.starts_with('"') {
        true => format!("{word}…"),
        false => quoted(word),
    };
    format!("expected `text~{value}`, `id={value}`, `event={value}` or `error~{value}`")
}

/// All terms.
fn all() -> String {
    let terms = FIELDS.iter().flat_map(|(field, operators)| {
        let name = if *field == "header" { ".NAME" } else { "" };
        operators
            .iter()
            .map(move |sign| format!("`{field}{name}{sign}`"))
    });
    format!("one of {}", terms.collect::<Vec<_>>().join(", "))
}
