//! What can be wrong with settings.

use std::{io, path::PathBuf};

/// Settings that cannot be used.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the settings in `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file's name does not say what is in it.
    #[error("`{}` has an unknown format: name it `….toml` or `….json`", path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// A key or a value is not as expected.
    #[error("invalid settings in {place}: {problem}")]
    Invalid {
        /// The variable, or the file with line and column.
        place: String,
        /// The key, what it has and what was expected. It quotes no value that may be a secret.
        problem: String,
    },
}

crate::debug_as_text!(ConfigError);
