//! Settings as a tree whose values know their origin, so that an error can name it.

use std::fmt::Display;

use serde::{
    de::{
        self, DeserializeSeed, Deserializer, Expected, MapAccess, SeqAccess, Unexpected, Visitor,
    },
    forward_to_deserialize_any,
};

use crate::suggest::closest;

/// A value, with its place.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) content: Content,
}

/// The content of a value.
#[derive(Debug)]
pub(super) enum Content {
    Text(String),
    Integer(i64),
    Unsigned(u64),
    Float(f64),
    Flag(bool),
    /// A value of a type that no setting has.
    Other(&'static str),
    List(Vec<Node>),
    Table(Vec<(Key, Node)>),
}

/// A key of a table.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) place: Place,
    pub(super) name: String,
}

/// The origin of a value.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// The offset in the text, in bytes.
    Text(usize),
    /// An environment variable, by its full name.
    Variable(String),
}

/// A problem in a document, and its place.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) problem: String,
    pub(super) place: Option<Place>,
    /// The keys that lead to the problem, innermost first.
    keys: Vec<String>,
}

impl Fault {
    pub(super) fn new(place: Place, problem: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            place: Some(place),
            keys: Vec::new(),
        }
    }

    /// The problem, preceded by its key.
    pub(super) fn describe(&self) -> String {
        if self.keys.is_empty() {
            return self.problem.clone();
        }
        let keys: Vec<_> = self.keys.iter().rev().map(String::as_str).collect();
        format!("`{}`: {}", keys.join("."), self.problem)
    }

    /// Sets the place, unless a more precise one is known.
    fn at(mut self, place: &Place) -> Self {
        self.place.get_or_insert_with(|| place.clone());
        self
    }

    fn below(mut self, key: &str) -> Self {
        self.keys.push(key.to_owned());
        self
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.describe())
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: Display>(problem: T) -> Self {
        Self {
            problem: problem.to_string(),
            place: None,
            keys: Vec::new(),
        }
    }

    /// Text of the wrong type may be a secret and is not quoted.
    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        match unexpected {
            Unexpected::Str(_) => {
                Self::custom(format_args!("invalid type: text, expected {expected}"))
            }
            other => Self::custom(format_args!("invalid type: {other}, expected {expected}")),
        }
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        match closest(field, known.iter().copied()) {
            Some(meant) => Self::custom(format_args!("unknown key: did you mean `{meant}`?")),
            None => {
                let known: Vec<_> = known.iter().map(|key| format!("`{key}`")).collect();
                Self::custom(format_args!(
                    "unknown key: expected one of {}",
                    known.join(", ")
                ))
            }
        }
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let visited = match &self.content {
            Content::Text(text) => visitor.visit_borrowed_str(text),
            Content::Integer(number) => visitor.visit_i64(*number),
            Content::Unsigned(number) => visitor.visit_u64(*number),
            Content::Float(number) => visitor.visit_f64(*number),
            Content::Flag(flag) => visitor.visit_bool(*flag),
            Content::Other(kind) => Err(de::Error::invalid_type(Unexpected::Other(kind), &visitor)),
            Content::List(items) => visitor.visit_seq(Items(items.iter())),
            Content::Table(entries) => visitor.visit_map(Entries {
                left: entries.iter(),
                value: None,
            }),
        };
        visited.map_err(|fault| fault.at(&self.place))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    /// Accepts only a table. Other content is not quoted, because it may be a secret.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let kind = match &self.content {
            Content::Table(_) => return self.deserialize_any(visitor),
            Content::Text(_) => "text",
            Content::Integer(_) | Content::Unsigned(_) | Content::Float(_) => "a number",
            Content::Flag(_) => "a flag",
            Content::List(_) => "a list",
            Content::Other(kind) => kind,
        };
        let fault: Fault = de::Error::invalid_type(Unexpected::Other(kind), &visitor);
        Err(fault.at(&self.place))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct Items<'de>(std::slice::Iter<'de, Node>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        self.0.next().map(|item| seed.deserialize(item)).transpose()
    }
}

struct Entries<'de> {
    left: std::slice::Iter<'de, (Key, Node)>,
    value: Option<&'de (Key, Node)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some(entry) = self.left.next() else {
            return Ok(None);
        };
        self.value = Some(entry);
        let key = &entry.0;
        let name = de::value::BorrowedStrDeserializer::new(&key.name);
        let found = seed.deserialize(name);
        found
            .map(Some)
            .map_err(|fault: Fault| fault.at(&key.place).below(&key.name))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some((key, value)) = self.value.take() else {
            return Err(de::Error::custom("a value was read before its key"));
        };
        seed.deserialize(value)
            .map_err(|fault| fault.at(&value.place).below(&key.name))
    }
}
