//! A [`TaskError`] in functions that return other error types.

use std::{error::Error, fmt, ops::Deref};

use super::TaskError;
use crate::error_text::with_causes;

/// A [`TaskError`] that implements [`std::error::Error`], returned by [`TaskError::into_std`]. `?` converts it into a
/// boxed error, `anyhow::Error` and similar types. A handler that returns one of these requests the same outcome as the
/// [`TaskError`] did.
pub struct StdTaskError(Marked);

/// The error again as its own cause: `anyhow` and `eyre` wrap an error in a private type, so that only its causes can
/// be downcast.
struct Marked(TaskError);

impl StdTaskError {
    pub(super) fn new(error: TaskError) -> Self {
        Self(Marked(error))
    }

    /// Returns the [`TaskError`].
    pub fn into_inner(self) -> TaskError {
        self.0.0
    }

    /// Returns the [`TaskError`] if `link` of a chain of causes is one.
    pub(super) fn marked<'a>(link: &'a (dyn Error + 'static)) -> Option<&'a TaskError> {
        if let Some(outer) = link.downcast_ref::<Self>() {
            return Some(&outer.0.0);
        }
        link.downcast_ref::<Marked>().map(|marked| &marked.0)
    }
}

impl Deref for StdTaskError {
    type Target = TaskError;

    fn deref(&self) -> &TaskError {
        &self.0.0
    }
}

impl Error for StdTaskError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

impl Error for Marked {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source().source()
    }
}

/// Omits the causes, which follow as `source`.
impl fmt::Display for Marked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0.source(), f)
    }
}

impl fmt::Debug for Marked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&with_causes(self))
    }
}

impl fmt::Display for StdTaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

crate::debug_as_text!(StdTaskError);
