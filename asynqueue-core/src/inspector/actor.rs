//! Who makes a change.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Who makes a change, as it is recorded with the change.
///
/// ```
/// use asynqueue_core::inspector::{Actor, Inspector};
/// # use asynqueue_core::memory::MemoryBroker;
///
/// let ada = Actor::new("ada").from_address("203.0.113.7");
/// assert_eq!(ada.to_string(), "ada from 203.0.113.7");
/// let inspector = Inspector::new(MemoryBroker::new()).acting_as(ada);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Actor {
    /// The name of a person or a program.
    pub name: String,
    /// Where the change was requested from, such as a network address. `None` if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

impl Actor {
    /// An actor without an address.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            from: None,
        }
    }

    /// Sets where the changes are requested from.
    #[must_use]
    pub fn from_address(mut self, from: impl Into<String>) -> Self {
        self.from = Some(from.into());
        self
    }
}

impl From<&str> for Actor {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for Actor {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.from {
            Some(from) => write!(f, " from {from}"),
            None => Ok(()),
        }
    }
}
