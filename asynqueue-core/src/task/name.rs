//! Names of queues, events and workers.

use std::{borrow::Borrow, fmt, ops::Deref};

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// A short name of a queue, an event, a worker or a group.
///
/// Cheap to clone: up to 23 bytes are stored inline, a longer name is shared.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Name(SmolStr);

/// The maximum length of a queue name, in bytes.
const MAX_QUEUE_NAME: usize = 200;

impl Name {
    /// A name from a constant, without allocation.
    pub const fn from_static(name: &'static str) -> Self {
        Self(SmolStr::new_static(name))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Checks that this is a valid queue name for every broker.
    ///
    /// # Errors
    ///
    /// When it is empty, longer than 200 bytes, `.` or `..`, or contains a brace, white space or a control
    /// character. Braces mark the hash slot in a Redis Cluster key, dots are path segments in a URL, and the rest
    /// is invisible or hard to type.
    pub fn check_queue(&self) -> Result<(), InvalidQueueName> {
        let name = self.as_str();
        let expected = if name.is_empty() {
            "at least one character"
        } else if is_dots(name) {
            "a name other than `.` and `..`"
        } else if name.len() > MAX_QUEUE_NAME {
            "at most 200 bytes"
        } else if name
            .contains(|c: char| c == '{' || c == '}' || c.is_whitespace() || c.is_control())
        {
            "no braces, white space or control characters"
        } else {
            return Ok(());
        };
        Err(InvalidQueueName {
            name: self.clone(),
            expected,
        })
    }
}

/// Browsers resolve these as path segments, so no page could have them in its URL.
pub(super) fn is_dots(name: &str) -> bool {
    matches!(name, "." | "..")
}

impl Name {
    /// Checks that this is a valid group name for every broker.
    ///
    /// # Errors
    ///
    /// When it is empty, longer than 200 bytes, or contains a control character.
    pub fn check_group(&self) -> Result<(), InvalidGroup> {
        let name = self.as_str();
        if name.is_empty() || name.len() > MAX_QUEUE_NAME || name.contains(char::is_control) {
            Err(InvalidGroup { name: self.clone() })
        } else {
            Ok(())
        }
    }
}

/// The error for an invalid group name.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid group `{name}`: expected 1 to 200 bytes without control characters")]
pub struct InvalidGroup {
    /// The rejected name.
    pub name: Name,
}

crate::debug_as_text!(InvalidGroup);

/// The error for an invalid queue name.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid queue name `{name}`: expected {expected}")]
pub struct InvalidQueueName {
    /// The rejected name.
    pub name: Name,
    expected: &'static str,
}

crate::debug_as_text!(InvalidQueueName);

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Self(SmolStr::new(name))
    }
}

impl From<String> for Name {
    fn from(name: String) -> Self {
        Self(SmolStr::from(name))
    }
}

impl From<&Name> for Name {
    fn from(name: &Name) -> Self {
        name.clone()
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_queue_names_are_refused_by_name() {
        for bad in ["", ".", "..", "a b", "a{b}", "a\n", &"x".repeat(201)] {
            let error = Name::from(bad).check_queue().expect_err(bad);
            assert!(error.to_string().contains(bad), "{error}");
        }
        for good in ["default", "...", "user:42", "größe", &"x".repeat(200)] {
            assert_eq!(Name::from(good).check_queue(), Ok(()));
        }
    }
}
