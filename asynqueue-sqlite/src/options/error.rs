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
    /// The path is almost the name of a database in memory.
    #[error(
        "path `{0}` is not that of a file: write `sqlite::memory:` for a database in memory, or `sqlite://./{0}` for a file"
    )]
    Memory(String),
    /// The path ends in a slash.
    #[error("path `{0}` is that of a folder: name a file in it, such as `{0}tasks.db`")]
    Folder(String),
    /// The path is not percent-encoded UTF-8.
    #[error(
        "path `{0}` is not percent-encoded UTF-8: write `%25` for a percent sign and `%3F` for a question mark"
    )]
    Encoding(String),
    /// The path has a NUL byte.
    #[error("path `{0}` has a NUL byte: remove `%00`")]
    Nul(String),
    /// The URL has a fragment.
    #[error(
        "the SQLite URL has a fragment, `#{0}`: remove it, or write `%23` for a `#` in the path"
    )]
    Fragment(String),
    /// The parameter is unknown.
    #[error("unknown parameter `{0}`: expected `durability` or `busy_timeout`")]
    Parameter(String),
    /// The parameter is in the URL more than once.
    #[error("parameter `{0}` is given more than once: keep one of them")]
    Repeated(String),
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
