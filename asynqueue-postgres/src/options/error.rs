//! Errors of invalid options.

use std::path::PathBuf;

/// Invalid options. The error never shows the user or the password.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// The URL has another scheme, or none.
    #[error(
        "this is not a PostgreSQL URL: write `postgres://user:password@host:5432/database`; it starts with `{0}`"
    )]
    Scheme(String),
    /// A part of the URL is not percent-encoded UTF-8.
    #[error(
        "the PostgreSQL URL is invalid: {0}: percent-encode special characters in the user and the password, such as `%40` for `@`, `%2F` for `/` and `%3F` for `?`"
    )]
    Url(String),
    /// The parameter is unknown.
    #[error("unknown parameter `{0}`: expected {expected}", expected = super::url::PARAMETERS)]
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
    /// A certificate or key cannot be read.
    #[error("cannot read `{file}` for parameter `{name}`: {reason}", file = file.display())]
    File {
        /// The name of the parameter.
        name: &'static str,
        /// The path in the URL.
        file: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The URL demands TLS, and this program was built without it.
    #[error("`sslmode={0}` needs TLS: enable the feature `tls`")]
    NoTls(String),
}

asynqueue_core::debug_as_text!(OptionsError);
