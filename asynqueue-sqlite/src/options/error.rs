//! Errors of invalid options.

/// Invalid options.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// The URL has another scheme, or none.
    #[error(
        "`{0}` is not a SQLite URL: write `sqlite://tasks.db`, or `sqlite:///` and an absolute path"
    )]
    Scheme(String),
    /// The URL has no path.
    #[error(
        "the SQLite URL has no path: write `sqlite://tasks.db`, or `sqlite::memory:` for a database in memory"
    )]
    NoPath,
    /// The path is not percent-encoded UTF-8.
    #[error(
        "path `{0}` is not percent-encoded UTF-8: write `%25` for a percent sign and `%3F` for a question mark"
    )]
    Encoding(String),
    /// The parameter is unknown.
    #[error("unknown parameter `{0}`: expected `durability` or `busy_timeout`")]
    Parameter(String),
    /// The value of a parameter is invalid.
    #[error("parameter `{name}` is `{value}`: {expected}")]
    Value {
        /// The name of the parameter.
        name: String,
        /// The value in the URL.
        value: String,
        /// The values that are valid.
        expected: String,
    },
}

asynqueue_core::debug_as_text!(OptionsError);
