//! The text of errors: the message of each, followed by its causes.

use std::error::Error;

/// The error's message, then that of each cause that the text does not contain yet. A message may repeat its cause
/// and add the fix after it.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) && !text.contains(&format!(": {more}")) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// Implements [`Debug`](std::fmt::Debug) for errors as their message and its causes, because `main`, `unwrap` and
/// `expect` print errors with it.
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
