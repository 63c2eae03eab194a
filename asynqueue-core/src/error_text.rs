//! How errors read: the sentence of each, followed by its causes.

use std::error::Error;

/// The error's text, then that of each cause that the text before it does not repeat.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// Implements [`Debug`](std::fmt::Debug) for errors as their sentence and its causes, since that is what a `main` that
/// returns an error prints, and what `unwrap` and `expect` print.
#[doc(hidden)]
#[macro_export]
macro_rules! debug_as_text {
    ($($error:ty),+ $(,)?) => { $(
        impl ::std::fmt::Debug for $error {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(&$crate::__private::with_causes(self))
            }
        }
    )+ };
}
