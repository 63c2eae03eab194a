//! Valid names of events, queues and groups.

use syn::{Error, LitStr, Result};

/// The maximum length of a queue name in bytes, the same for all brokers.
const MAX_QUEUE_NAME: usize = 200;

/// Checks an event name. It is typed into commands and searched in logs.
pub(super) fn check_event(name: &LitStr) -> Result<()> {
    let text = name.value();
    if text.is_empty() {
        return refuse(
            name,
            "the event name is empty: write a name such as `email:welcome`",
        );
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return refuse(
            name,
            "the event name contains white space or control characters: \
             write a name such as `email:welcome`",
        );
    }
    Ok(())
}

/// Checks a queue name by the rules of the framework.
pub(super) fn check_queue(name: &LitStr) -> Result<()> {
    let text = name.value();
    if text.is_empty() {
        return refuse(
            name,
            "the queue name is empty: for the queue `default`, remove `queue`",
        );
    }
    if text.len() > MAX_QUEUE_NAME {
        return refuse(name, "the queue name is longer than 200 bytes: shorten it");
    }
    if text.contains(|c: char| matches!(c, '{' | '}') || c.is_whitespace() || c.is_control()) {
        return refuse(
            name,
            "the queue name contains braces, white space or control characters: \
             write a name such as `user:42` or `low-priority`",
        );
    }
    Ok(())
}

/// Checks a group name.
pub(super) fn check_group(name: &LitStr) -> Result<()> {
    if name.value().is_empty() {
        return refuse(
            name,
            "the group name is empty: for no group, remove `group`",
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
    fn the_derive_accepts_the_same_queue_names_as_the_framework() {
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
