//! Errors of rules, with their position.

/// The error for an invalid rule.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid rule `{rule}`, at position {position}: {reason}")]
pub struct InvalidRule {
    /// The rejected rule, without surrounding white space.
    pub rule: String,
    /// Where the error is in the rule, as a byte offset.
    pub position: usize,
    reason: String,
}

crate::debug_as_text!(InvalidRule);

impl InvalidRule {
    pub(super) fn new(rule: &str, fault: Fault<'_>) -> Self {
        // The part is a slice of the rule, so its address gives the position.
        let place = fault.part.as_ptr().addr();
        let position = place.saturating_sub(rule.as_ptr().addr());
        Self {
            rule: rule.to_owned(),
            position,
            reason: fault.reason,
        }
    }
}

/// An error in a part of a rule. The part's address gives its position in the rule.
#[derive(Debug)]
pub(super) struct Fault<'t> {
    /// The invalid part, a slice of the rule's text.
    pub(super) part: &'t str,
    /// What is wrong, and what was expected.
    pub(super) reason: String,
}

impl<'t> Fault<'t> {
    pub(super) fn new(part: &'t str, reason: impl Into<String>) -> Self {
        Self {
            part,
            reason: reason.into(),
        }
    }
}
