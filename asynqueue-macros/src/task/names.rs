//! What an event, a queue and a group may be called.

use syn::{Error, LitStr, Result};

/// The longest queue name, in bytes, as all brokers have it.
const MAX_QUEUE_NAME: usize = 200;

/// Checks an event name: it is typed into commands and looked for in logs.
pub(super) fn check_event(name: &LitStr) -> Result<()> {
    let text = name.value();
    if text.is_empty() {
        return refuse(
            name,
            "an event name has at least one character: write one such as `email:welcome`",
        );
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return refuse(
            name,
            "an event name has no white space or control characters: \
             write one such as `email:welcome`",
        );
    }
    Ok(())
}

/// Checks a queue name by the rules that the framework applies at run time.
pub(super) fn check_queue(name: &LitStr) -> Result<()> {
    let text = name.value();
    if text.is_empty() {
        return refuse(
            name,
            "a queue name has at least one character; for the queue `default`, leave `queue` out",
        );
    }
    if text.len() > MAX_QUEUE_NAME {
        return refuse(name, "a queue name has at most 200 bytes: shorten it");
    }
    if text.contains(|c: char| matches!(c, '{' | '}') || c.is_whitespace() || c.is_control()) {
        return refuse(
            name,
            "a queue name has no braces, white space or control characters: \
             write one such as `user:42` or `low-priority`",
        );
    }
    Ok(())
}

/// Checks a group's label.
pub(super) fn check_group(name: &LitStr) -> Result<()> {
    if name.value().is_empty() {
        return refuse(
            name,
            "a group has at least one character; for no group, leave `group` out",
        );
    }
    Ok(())
}

fn refuse(name: &LitStr, reason: &str) -> Result<()> {
    Err(Error::new(name.span(), reason))
}

#[cfg(test)]
mod tests {
    use asynqueue_core::task::Name;
    use proc_macro2::Span;

    use super::*;

    fn literal(text: &str) -> LitStr {
        LitStr::new(text, Span::call_site())
    }

    #[test]
    fn the_derive_takes_exactly_the_queue_names_that_the_framework_takes() {
        let texts = [
            "default",
            "user:42",
            "größe",
            "a.b/c",
            &"x".repeat(200),
            "",
            "a b",
            "a\u{a0}b",
            "a{b",
            "a}b",
            "a\n",
            "\u{7}",
            &"x".repeat(201),
        ];
        for text in texts {
            assert_eq!(
                check_queue(&literal(text)).is_ok(),
                Name::from(text).check_queue().is_ok(),
                "{text:?}"
            );
        }
    }

    #[test]
    fn an_event_name_is_one_visible_word() {
        for good in ["email:welcome", "größe", "a.b/c-{d}"] {
            assert!(check_event(&literal(good)).is_ok(), "{good}");
        }
        for bad in ["", " ", "email welcome", "email\twelcome", "\u{7}"] {
            assert!(check_event(&literal(bad)).is_err(), "{bad:?}");
        }
    }
}
