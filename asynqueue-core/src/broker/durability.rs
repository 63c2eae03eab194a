//! What has to have a task before a call counts as done.

use std::{fmt, str::FromStr};

/// What has to have a change before the call that makes it returns `Ok`: a choice by name, for a broker as a whole and for a
/// [single call](crate::producer::Enqueue::durability). Which names a broker offers, and what each costs, is a matter of its store.
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
    /// The server that answers, which keeps it as it is set up to. The default.
    #[default]
    Primary,
    /// This many replicas of that server have it in memory too. With 0 it is [`Primary`](Self::Primary).
    Replicas(u32),
    /// The disk of the server that answers.
    Fsync,
}

impl Durability {
    /// Whether the answer of the server is enough.
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

/// Text that names no durability.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a durability: it is `primary`, `replicas=1` with the number of replicas, or `fsync`"
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
                error.starts_with(&format!("`{text}` is not a durability: it is `primary`")),
                "{error}"
            );
        }
    }
}
