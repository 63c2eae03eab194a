//! Parsers of single values. Values from the environment are always text, so each type also accepts its text form.

use std::{collections::BTreeMap, fmt, marker::PhantomData, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{self, Error, SeqAccess, Unexpected, Visitor},
};

use super::AccountRole;
use crate::{
    duration::parse_millis,
    process::OnDecodeError,
    server::{MOST_AT_ONCE, SHORTEST_INTERVAL, SHORTEST_LEASE},
    task::Name,
};

/// A whole number from `LEAST` to `MOST`, and not more than fits in an `N`.
struct Count<N, const LEAST: u64 = 1, const MOST: u64 = { u64::MAX }>(N);

impl<'de, N, const LEAST: u64, const MOST: u64> Deserialize<'de> for Count<N, LEAST, MOST>
where
    N: TryFrom<u64>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor(PhantomData))
    }
}

struct CountVisitor<N, const LEAST: u64, const MOST: u64>(PhantomData<N>);

impl<N, const LEAST: u64, const MOST: u64> Visitor<'_> for CountVisitor<N, LEAST, MOST>
where
    N: TryFrom<u64>,
{
    type Value = Count<N, LEAST, MOST>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = MOST.min(u64::MAX >> (64 - 8 * size_of::<N>()));
        write!(f, "a whole number from {LEAST} to {most}")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        match N::try_from(number) {
            Ok(count) if (LEAST..=MOST).contains(&number) => Ok(Count(count)),
            _ => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
        }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        match text.parse() {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }
}

pub(super) fn count<'de, D, N>(deserializer: D) -> Result<Option<N>, D::Error>
where
    D: Deserializer<'de>,
    N: TryFrom<u64>,
{
    <Count<N>>::deserialize(deserializer).map(|Count(count)| Some(count))
}

pub(super) fn concurrency<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<usize>, D::Error> {
    <Count<usize, 1, { MOST_AT_ONCE as u64 }>>::deserialize(deserializer)
        .map(|Count(count)| Some(count))
}

pub(super) fn count_or_zero<'de, D, N>(deserializer: D) -> Result<Option<N>, D::Error>
where
    D: Deserializer<'de>,
    N: TryFrom<u64>,
{
    <Count<N, 0>>::deserialize(deserializer).map(|Count(count)| Some(count))
}

/// A valid queue name.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct QueueName(Name);

impl<'de> Deserialize<'de> for QueueName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let queue = Name::deserialize(deserializer)?;
        queue.check_queue().map_err(D::Error::custom)?;
        Ok(Self(queue))
    }
}

/// A number for each queue.
pub(super) fn counts<'de, D, N>(deserializer: D) -> Result<BTreeMap<Name, N>, D::Error>
where
    D: Deserializer<'de>,
    N: TryFrom<u64>,
{
    let counts = BTreeMap::<QueueName, Count<N>>::deserialize(deserializer)?;
    let counts = counts.into_iter();
    Ok(counts.map(|(QueueName(q), Count(n))| (q, n)).collect())
}

struct FlagVisitor;

impl Visitor<'_> for FlagVisitor {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`true` or `false`")
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<bool, E> {
        Ok(flag)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        text.parse()
            .map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }
}

pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    deserializer.deserialize_any(FlagVisitor).map(Some)
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text in quotes")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    deserializer.deserialize_any(TextVisitor)
}

pub(super) fn some_text<'de, D>(deserializer: D) -> Result<Option<String>, D::Error>
where
    D: Deserializer<'de>,
{
    text(deserializer).map(Some)
}

/// A list of texts, or one text separated by commas.
struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of text values")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<String>, E> {
        let items = text.split(',').map(str::trim);
        let items = items.filter(|item| !item.is_empty());
        Ok(items.map(str::to_owned).collect())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(items)
    }
}

pub(super) fn texts<'de, D>(deserializer: D) -> Result<Option<Vec<String>>, D::Error>
where
    D: Deserializer<'de>,
{
    deserializer.deserialize_any(TextsVisitor).map(Some)
}

/// A path of characters that need no escaping and have no meaning for a router.
pub(super) fn path<'de, D>(deserializer: D) -> Result<Option<String>, D::Error>
where
    D: Deserializer<'de>,
{
    let expected = "a path that starts with `/`, of letters, digits, `/`, `-`, `.`, `_` and `~`";
    checked(deserializer, expected, |path| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
        path.starts_with('/') && path.chars().all(is_plain)
    })
}

/// A non-empty name: an unset variable expands to an empty one.
pub(super) fn name<'de, D>(deserializer: D) -> Result<Option<String>, D::Error>
where
    D: Deserializer<'de>,
{
    checked(deserializer, "a name of at least one character", |name| {
        !name.is_empty()
    })
}

/// A host and a port.
pub(super) fn address<'de, D>(deserializer: D) -> Result<Option<String>, D::Error>
where
    D: Deserializer<'de>,
{
    let expected = "a host and a port, such as `127.0.0.1:9464`";
    checked(deserializer, expected, |address| {
        let parts = address.rsplit_once(':');
        parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    })
}

fn checked<'de, D: Deserializer<'de>>(
    deserializer: D,
    expected: &str,
    is_valid: impl FnOnce(&str) -> bool,
) -> Result<Option<String>, D::Error> {
    let text = text(deserializer)?;
    if is_valid(&text) {
        Ok(Some(text))
    } else {
        Err(D::Error::invalid_value(Unexpected::Str(&text), &expected))
    }
}

struct DurationVisitor;

impl de::Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration in quotes and with its unit, such as \"30s\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        parse_millis(text)
            .map(Duration::from_millis)
            .map_err(|why| E::custom(format_args!("`{text}` is not a duration: {why}")))
    }
}

pub(super) fn duration<'de, D>(deserializer: D) -> Result<Option<Duration>, D::Error>
where
    D: Deserializer<'de>,
{
    deserializer.deserialize_any(DurationVisitor).map(Some)
}

pub(super) fn lease<'de, D>(deserializer: D) -> Result<Option<Duration>, D::Error>
where
    D: Deserializer<'de>,
{
    at_least(SHORTEST_LEASE, duration(deserializer)?)
}

pub(super) fn interval<'de, D>(deserializer: D) -> Result<Option<Duration>, D::Error>
where
    D: Deserializer<'de>,
{
    at_least(SHORTEST_INTERVAL, duration(deserializer)?)
}

fn at_least<E: Error>(shortest: Duration, given: Option<Duration>) -> Result<Option<Duration>, E> {
    match given {
        Some(given) if given < shortest => Err(E::custom(format_args!(
            "{given:?} is too short: expected at least {shortest:?}"
        ))),
        given => Ok(given),
    }
}

pub(super) fn on_decode_error<'de, D>(deserializer: D) -> Result<Option<OnDecodeError>, D::Error>
where
    D: Deserializer<'de>,
{
    match text(deserializer)?.as_str() {
        "retry" => Ok(Some(OnDecodeError::Retry)),
        "archive" => Ok(Some(OnDecodeError::Archive)),
        other => {
            let expected = "\"retry\" or \"archive\"";
            Err(D::Error::invalid_value(Unexpected::Str(other), &expected))
        }
    }
}

pub(super) fn role<'de, D>(deserializer: D) -> Result<Option<AccountRole>, D::Error>
where
    D: Deserializer<'de>,
{
    match text(deserializer)?.as_str() {
        "viewer" => Ok(Some(AccountRole::Viewer)),
        "admin" => Ok(Some(AccountRole::Admin)),
        other => {
            let expected = "\"viewer\" or \"admin\"";
            Err(D::Error::invalid_value(Unexpected::Str(other), &expected))
        }
    }
}
