//! What can be wrong with settings.

use std::{io, path::PathBuf};

/// Settings that cannot be used.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the settings in `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file's name does not say what is in it.
    #[error("`{}` is of no known format: name it `….toml` or `….json`", path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// A key or a value is not as expected.
    #[error("the settings in {origin} are wrong: {problem}")]
    Invalid {
        /// Where they are from.
        origin: String,
        /// The key, what it has and what was expected.
        problem: String,
    },
}

crate::debug_as_text!(ConfigError);
