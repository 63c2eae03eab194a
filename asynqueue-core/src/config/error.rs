//! Errors of settings.

use std::{io, path::PathBuf};

/// The settings are invalid or cannot be read.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the settings in `{}`: {source}", path.display())]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// The file name has an unknown extension.
    #[error("`{}` has an unknown format: expected a file name that ends in `.toml` or `.json`", path.display())]
    Format {
        /// The path of the file.
        path: PathBuf,
    },
    /// A key or a value is invalid.
    #[error("invalid settings in {place}: {problem}")]
    Invalid {
        /// The variable, or the file with line and column.
        place: String,
        /// The key, its value and what was expected. Values that may be secret are not quoted.
        problem: String,
    },
}

crate::debug_as_text!(ConfigError);
