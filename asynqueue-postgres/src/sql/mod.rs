//! Statements, and the tables and functions that they use.

pub(crate) mod values;

pub(crate) use self::values::{Call, Value};
