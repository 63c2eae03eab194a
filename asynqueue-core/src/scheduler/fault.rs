//! What is wrong with a rule, and where.

/// A rule that says no time.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid rule `{rule}`, at position {position}: {reason}")]
pub struct InvalidRule {
    /// The rule as given, without white space around it.
    pub rule: String,
    /// Where the fault is in the rule, in bytes from its start.
    pub position: usize,
    reason: String,
}

crate::debug_as_text!(InvalidRule);

impl InvalidRule {
    pub(super) fn new(rule: &str, fault: Fault<'_>) -> Self {
        // The part is a slice of the rule, so the distance of their beginnings is its place.
        let place = fault.part.as_ptr().addr();
        let position = place.saturating_sub(rule.as_ptr().addr());
        Self {
            rule: rule.to_owned(),
            position,
            reason: fault.reason,
        }
    }
}

/// A fault in a part of a rule's text, which tells by its place in memory where it is.
#[derive(Debug)]
pub(super) struct Fault<'t> {
    /// The faulty part, a slice of the rule's text.
    pub(super) part: &'t str,
    /// What is wrong with it, and what to write.
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
