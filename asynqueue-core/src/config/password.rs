//! A password that is never logged.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// A password. Its `Debug` output and deserialization errors do not contain it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// A password.
    pub fn new(password: impl Into<String>) -> Self {
        Self(password.into())
    }

    /// The password in clear text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PasswordVisitor)
    }
}

struct PasswordVisitor;

/// Replaces serde's own errors, which would contain the value.
fn not_text<E: de::Error>() -> Result<Password, E> {
    Err(E::custom("expected a password as text: put it in quotes"))
}

impl de::Visitor<'_> for PasswordVisitor {
    type Value = Password;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Password, E> {
        Ok(Password(text.to_owned()))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Password, E> {
        not_text()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Password, E> {
        not_text()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Password, E> {
        not_text()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Password, E> {
        not_text()
    }
}
