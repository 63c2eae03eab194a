//! Where a change must be stored before a call succeeds.

use std::{fmt, str::FromStr};

/// Where a change must be stored before the call that makes it returns `Ok`. Set for a broker or for a [single
/// call](crate::producer::Enqueue::durability). The store determines which values a broker supports and what they cost.
///
/// As text it is `primary`, `replicas=1` or `fsync`.
///
/// ```
/// use asynqueue_core::broker::Durability;
///
/// assert_eq!("replicas=2".parse(), Ok(Durability::Replicas(2)));
/// assert_eq!(Durability::default().to_string(), "primary");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// In the server that responds, as far as its configuration makes it durable. The default.
    #[default]
    Primary,
    /// Also in the memory of this many replicas of that server. 0 is the same as [`Primary`](Self::Primary).
    Replicas(u32),
    /// On the disk of the server that responds.
    Fsync,
}

impl Durability {
    /// Whether the response of the server is enough.
    pub fn is_primary(self) -> bool {
        matches!(self, Self::Primary | Self::Replicas(0))
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Primary => f.write_str("primary"),
            Self::Replicas(replicas) => write!(f, "replicas={replicas}"),
            Self::Fsync => f.write_str("fsync"),
        }
    }
}

/// The error for text that is not a durability.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a durability: expected `primary`, `replicas=` with a number of at least 1, or `fsync`"
)]
pub struct InvalidDurability(String);

crate::debug_as_text!(InvalidDurability);

impl FromStr for Durability {
    type Err = InvalidDurability;

    fn from_str(text: &str) -> Result<Self, InvalidDurability> {
        let invalid = || InvalidDurability(text.to_owned());
        match text.split_once('=') {
            None if text == "primary" => Ok(Self::Primary),
            None if text == "fsync" => Ok(Self::Fsync),
            Some(("replicas", replicas)) => {
                let replicas = replicas.parse().ok().filter(|replicas| *replicas > 0);
                replicas.map(Self::Replicas).ok_or_else(invalid)
            }
            _ => Err(invalid()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_alike() {
        for name in ["primary", "replicas=1", "replicas=3", "fsync"] {
            assert_eq!(
                name.parse::<Durability>()
                    .map(|read| read.to_string())
                    .as_deref(),
                Ok(name)
            );
        }
        for text in [
            "",
            "replicas",
            "replicas=",
            "replicas=0",
            "replicas=-1",
            "replicas=many",
            "disk",
        ] {
            let error = text.parse::<Durability>().expect_err(text).to_string();
            assert!(
                error.starts_with(&format!("`{text}` is not a durability: expected `primary`")),
                "{error}"
            );
        }
    }
}
