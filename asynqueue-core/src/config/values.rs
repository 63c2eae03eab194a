//! Reading single values. A value from the environment is always text, so each type takes its text form too.

use std::{collections::BTreeMap, fmt, marker::PhantomData, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{self, Error, Unexpected, Visitor},
};

use crate::duration::parse_millis;
use crate::{
    process::OnDecodeError,
    server::{SHORTEST_INTERVAL, SHORTEST_LEASE},
    task::Name,
};

/// A whole number of at least 1.
struct Count<N>(N);

impl<'de, N: TryFrom<u64>> Deserialize<'de> for Count<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor(PhantomData))
    }
}

struct CountVisitor<N>(PhantomData<N>);

impl<N: TryFrom<u64>> Visitor<'_> for CountVisitor<N> {
    type Value = Count<N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a whole number from 1 to {}",
            u64::MAX >> (64 - 8 * size_of::<N>())
        )
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Count<N>, E> {
        match N::try_from(number) {
            Ok(count) if number > 0 => Ok(Count(count)),
            _ => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
        }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Count<N>, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Count<N>, E> {
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
    Count::deserialize(deserializer).map(|Count(count)| Some(count))
}

pub(super) fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    Count::deserialize(deserializer).map(|Count(port)| port)
}

/// A number for each queue.
pub(super) fn counts<'de, D, N>(deserializer: D) -> Result<BTreeMap<Name, N>, D::Error>
where
    D: Deserializer<'de>,
    N: TryFrom<u64>,
{
    let counts = BTreeMap::<Name, Count<N>>::deserialize(deserializer)?;
    for queue in counts.keys() {
        queue.check_queue().map_err(D::Error::custom)?;
    }
    Ok(counts
        .into_iter()
        .map(|(queue, Count(n))| (queue, n))
        .collect())
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

pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    deserializer.deserialize_any(FlagVisitor)
}

pub(super) fn some_flag<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<bool>, D::Error> {
    flag(deserializer).map(Some)
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

/// A path below the root.
pub(super) fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let path = text(deserializer)?;
    if path.starts_with('/') {
        Ok(path)
    } else {
        let expected = "a path that starts with `/`";
        Err(D::Error::invalid_value(Unexpected::Str(&path), &expected))
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
            "{given:?} is too short: it is at least {shortest:?}"
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
