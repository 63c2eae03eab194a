//! Task identifiers.

use std::fmt;

use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, SmolStrBuilder};

use super::{Timestamp, failure::cut, name::is_dots};
use crate::ambient;

/// Identifies a task within its queue.
///
/// A generated id has 22 characters of base 62: 48 bits of milliseconds since 1970, then 80 random bits. Ids therefore
/// sort by creation time and fit in a URL. A custom id makes enqueueing idempotent: a second task with the same id is
/// refused with a conflict.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(SmolStr);

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The number of base 62 digits that hold any 64-bit number.
const DIGITS_PER_U64: usize = 11;

/// The longest id, in bytes.
const MAX_TASK_ID: usize = 255;

impl TaskId {
    /// A new, unique id.
    pub fn generate() -> Self {
        Self::generate_at(ambient::system_time())
    }

    /// A new, unique id that contains its [creation time](Self::time).
    pub(crate) fn generate_at(now: Timestamp) -> Self {
        let random: u128 = ambient::random();
        let high = now.as_millis() << 16 | u64::from(random as u16);
        Self::from_u128(u128::from(high) << 64 | random >> 64)
    }

    /// A new, unique id that sorts behind `previous`, if that was generated in the same millisecond. A store then appends
    /// the tasks of a batch to its index, instead of inserting them in random places.
    pub(crate) fn generate_after(previous: Option<&Self>, now: Timestamp) -> Self {
        let next = |previous: &Self| {
            let step = 1 + u128::from(ambient::random::<u64>() as u32);
            let next = Self::from_u128(previous.to_u128()?.checked_add(step)?);
            (next.time() == Some(now)).then_some(next)
        };
        previous
            .filter(|previous| previous.time() == Some(now))
            .and_then(next)
            .unwrap_or_else(|| Self::generate_at(now))
    }

    /// The creation time of a generated id. A custom id that looks like a generated one returns a meaningless time.
    pub(super) fn time(&self) -> Option<Timestamp> {
        let number = self.to_u128()?;
        Some(Timestamp::from_millis((number >> 80) as u64))
    }

    /// The number behind a generated id, which sorts as the id does: 48 bits of milliseconds, then 80 random bits. A
    /// store can keep these 16 bytes instead of 22. `None` for a custom id, unless it looks like a generated one.
    pub fn to_u128(&self) -> Option<u128> {
        let (high, low) = self.0.as_bytes().split_at_checked(DIGITS_PER_U64)?;
        let number = |digits: &[u8]| {
            let add = |n: u64, digit: &u8| n.checked_mul(62)?.checked_add(value(*digit)?);
            digits.iter().try_fold(0, add)
        };
        let (high, low) = (number(high)?, number(low)?);
        (self.0.len() == 2 * DIGITS_PER_U64).then_some(u128::from(high) << 64 | u128::from(low))
    }

    /// The id with this [number](Self::to_u128).
    pub fn from_u128(number: u128) -> Self {
        let mut id = SmolStrBuilder::new();
        push_base62(&mut id, (number >> 64) as u64);
        push_base62(&mut id, number as u64);
        Self(id.finish())
    }

    /// A custom id.
    ///
    /// # Errors
    ///
    /// When it is empty, longer than 255 bytes, `.` or `..`, or contains white space or control characters.
    pub fn new(id: impl AsRef<str>) -> Result<Self, InvalidTaskId> {
        let id = id.as_ref();
        let valid = !id.is_empty()
            && id.len() <= MAX_TASK_ID
            && !is_dots(id)
            && !id.contains(|c: char| c.is_whitespace() || c.is_control());
        if valid {
            Ok(Self(SmolStr::new(id)))
        } else {
            Err(InvalidTaskId { id: id.to_owned() })
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The value of a base 62 digit.
fn value(digit: u8) -> Option<u64> {
    let value = match digit {
        b'0'..=b'9' => digit - b'0',
        b'A'..=b'Z' => digit - b'A' + 10,
        b'a'..=b'z' => digit - b'a' + 36,
        _ => return None,
    };
    Some(value.into())
}

/// Writes `n` in a fixed width, most significant digit first, so that text order is numeric order.
fn push_base62(text: &mut SmolStrBuilder, mut n: u64) {
    let mut digits = [0_u8; DIGITS_PER_U64];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(n % 62) as usize];
        n /= 62;
    }
    digits.iter().for_each(|&digit| text.push(digit.into()));
}

/// The error for text that is not a valid task id.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid task id {}: expected 1 to 255 bytes without white space or control characters, other than `.` and `..`",
    quoted(id)
)]
pub struct InvalidTaskId {
    /// The rejected id.
    pub id: String,
}

crate::debug_as_text!(InvalidTaskId);

/// How many bytes of a text that is too long an error shows.
const SHOWN: usize = 40;

/// Text in backticks. Of a text that is longer than a valid id, the start and the length.
pub(super) fn quoted(text: &str) -> String {
    if text.len() <= MAX_TASK_ID {
        return format!("`{text}`");
    }
    let mut start = text.to_owned();
    cut(&mut start, SHOWN);
    format!("`{start}` of {} bytes", text.len())
}

impl From<TaskId> for String {
    fn from(id: TaskId) -> Self {
        id.0.into()
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl std::str::FromStr for TaskId {
    type Err = InvalidTaskId;

    fn from_str(id: &str) -> Result<Self, Self::Err> {
        Self::new(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_are_distinct_url_safe_and_sort_by_time() {
        let earlier = TaskId::generate();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let later = TaskId::generate();
        assert_eq!(earlier.as_str().len(), 22);
        assert!(earlier.as_str().bytes().all(|b| b.is_ascii_alphanumeric()));
        assert!(earlier < later);
    }

    #[test]
    fn a_generated_id_contains_its_creation_time() {
        for millis in [0, 1, 1_700_000_000_000, (1 << 48) - 1] {
            let now = Timestamp::from_millis(millis);
            assert_eq!(TaskId::generate_at(now).time(), Some(now));
        }
        for own in [
            "order-42",
            "zzzzzzzzzzzzzzzzzzzzzz",
            "0123456789-12345678901",
        ] {
            assert_eq!(TaskId::new(own).expect("an id").time(), None, "{own}");
        }
    }

    #[test]
    fn ids_that_follow_each_other_ascend() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let mut ids = vec![TaskId::generate_at(now)];
        for _ in 0..1_000 {
            ids.push(TaskId::generate_after(ids.last(), now));
        }
        assert!(ids.is_sorted_by(|one, next| one < next));
        assert!(ids.iter().all(|id| id.time() == Some(now)));
        // The last one of its millisecond, and a custom one.
        let last = TaskId::from_u128((1_700_000_000_000 << 80) | ((1 << 80) - 1));
        let custom = TaskId::new("order-42").expect("an id");
        for previous in [last, custom] {
            let next = TaskId::generate_after(Some(&previous), now);
            assert_eq!(next.time(), Some(now), "after {previous}");
        }
    }

    #[test]
    fn a_generated_id_is_a_number_that_sorts_alike() {
        let ids: Vec<_> = (0..100).map(|_| TaskId::generate()).collect();
        let numbers = ids.iter().map(|id| id.to_u128().expect("a number"));
        let mut pairs: Vec<_> = numbers.zip(&ids).collect();
        pairs.sort_unstable();
        assert!(pairs.is_sorted_by_key(|(_, id)| *id));
        assert!(pairs.iter().all(|(n, id)| TaskId::from_u128(*n) == **id));
        for number in [0, 1, u128::from(u64::MAX), 1 << 64, u128::MAX] {
            assert_eq!(TaskId::from_u128(number).to_u128(), Some(number));
        }
        // The second half is above 64 bits.
        let large = TaskId::new("00000000000zzzzzzzzzzz").expect("an id");
        assert_eq!(large.to_u128(), None);
    }

    #[test]
    fn invalid_ids_are_refused_by_name() {
        for bad in ["", ".", "..", "a b", "a\u{7}", &"x".repeat(256)] {
            assert_eq!(TaskId::new(bad), Err(InvalidTaskId { id: bad.to_owned() }));
        }
        assert_eq!(
            TaskId::new("order-42").map(String::from),
            Ok("order-42".into())
        );
    }

    #[test]
    fn an_id_that_is_too_long_is_shown_in_part_with_its_length() {
        let error = TaskId::new("é".repeat(300)).expect_err("too long");
        assert_eq!(
            error.to_string(),
            format!(
                "invalid task id `{}…` of 600 bytes: expected 1 to 255 bytes without white space or control characters, other than `.` and `..`",
                "é".repeat(20)
            )
        );
        assert_eq!(error.id.len(), 600);
    }
}
