//! What an edit changed: the payload before, and whether its shape is the same.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    inspector::{Viewer, redact::MARKER},
    task::cut,
};

/// The payload before an edit, and how its shape changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditEdit {
    /// The payload before, as JSON. [Redacted](crate::inspector::Inspector::redact) fields are `"[redacted]"`.
    pub before: String,
    /// Whether `before` is complete. A longer payload is cut to [`AuditEdit::MAX_BEFORE`] bytes.
    pub is_complete: bool,
    /// The changes of its shape in words: at most ten top-level fields that were added or removed, or whose type
    /// changed. The payload may no longer decode as the type of the handler then.
    #[serde(default)]
    pub shape: Vec<String>,
}

impl AuditEdit {
    /// The most bytes of the payload before.
    pub const MAX_BEFORE: usize = 4 * 1024;

    const MAX_SHAPE: usize = 10;

    /// An edit of a payload, both as a viewer sees them.
    pub fn new(before: &Value, after: &Value) -> Self {
        let mut text = before.to_string();
        let is_complete = text.len() <= Self::MAX_BEFORE;
        cut(&mut text, Self::MAX_BEFORE);
        Self {
            before: text,
            is_complete,
            shape: shape(before, after),
        }
    }

    /// Hides what this viewer must not see, in addition to what was hidden before.
    pub(super) fn hide(&mut self, viewer: &Viewer) {
        if !viewer.redacts() {
            return;
        }
        match self.payload() {
            Some(mut payload) => {
                viewer.hide(&mut payload);
                self.before = payload.to_string();
            }
            // What was cut cannot be decoded, so the names of its fields are unknown.
            None => self.before = MARKER.to_owned(),
        }
    }

    /// The payload before. `None` if it is not complete.
    pub fn payload(&self) -> Option<Value> {
        let parsed = || serde_json::from_str(&self.before).ok();
        self.is_complete.then(parsed).flatten()
    }
}

/// The changes between the shapes of two payloads.
fn shape(before: &Value, after: &Value) -> Vec<String> {
    let mut changes = match (before, after) {
        (Value::Object(before), Value::Object(after)) => fields(before, after),
        _ => changed_type(before, after)
            .map(|change| format!("the payload changed {change}"))
            .into_iter()
            .collect(),
    };
    changes.truncate(AuditEdit::MAX_SHAPE);
    changes
}

fn fields(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<String> {
    let removed = before.keys().filter(|key| !after.contains_key(*key));
    let added = after.keys().filter(|key| !before.contains_key(*key));
    let both = before.iter().filter_map(|(key, old)| {
        let change = changed_type(old, after.get(key)?)?;
        Some(format!("field `{}` changed {change}", short(key)))
    });
    let removed = removed.map(|key| format!("field `{}` was removed", short(key)));
    let added = added.map(|key| format!("field `{}` was added", short(key)));
    removed.chain(added).chain(both).collect()
}

fn short(key: &str) -> String {
    let mut key = key.to_owned();
    cut(&mut key, 50);
    key
}

/// Null is a value of an optional field, so it has the type of any other value.
fn changed_type(before: &Value, after: &Value) -> Option<String> {
    let (old, new) = (type_of(before)?, type_of(after)?);
    (old != new).then(|| format!("from {old} to {new}"))
}

fn type_of(value: &Value) -> Option<&'static str> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(_) => "a boolean",
        // A float may be written without a fraction.
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shape_of(before: Value, after: Value) -> Vec<String> {
        AuditEdit::new(&before, &after).shape
    }

    #[test]
    fn a_change_of_values_keeps_the_shape() {
        let before = json!({ "n": 1, "who": null, "inner": { "a": 1 } });
        let after = json!({ "n": 2.5, "who": "ada", "inner": {} });
        assert_eq!(shape_of(before, after), [""; 0]);
        assert_eq!(shape_of(json!(1), json!(2)), [""; 0]);
    }

    #[test]
    fn changed_fields_are_named() {
        let before = json!({ "card": "4242", "amount": 12 });
        let changes = shape_of(before.clone(), json!({ "x": 1, "amount": "12" }));
        let expected = [
            "field `card` was removed",
            "field `x` was added",
            "field `amount` changed from a number to text",
        ];
        assert_eq!(changes, expected);
        let changes = shape_of(before, json!([]));
        assert_eq!(changes, ["the payload changed from an object to a list"]);
        let many: Map<_, _> = (0..99).map(|n| (n.to_string(), json!(n))).collect();
        assert_eq!(shape_of(json!({}), many.into()).len(), 10);
    }

    #[test]
    fn a_long_payload_is_cut_and_cannot_be_restored() {
        let short = AuditEdit::new(&json!({ "a": 1 }), &json!({ "a": 2 }));
        assert_eq!(short.payload(), Some(json!({ "a": 1 })));
        let long = json!("ä".repeat(AuditEdit::MAX_BEFORE));
        let long = AuditEdit::new(&long, &json!(""));
        assert!(long.before.len() <= AuditEdit::MAX_BEFORE + "…".len());
        assert_eq!(long.payload(), None);
    }
}
