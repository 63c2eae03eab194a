//! Redacted fields: hidden when a payload is shown, and kept when it is edited.

use serde_json::{Map, Value};

use super::view::ViewError;

/// The text shown in place of a redacted value.
pub(super) const MARKER: &str = "[redacted]";

/// The names of redacted fields, which are hidden at any depth.
#[derive(Clone, Debug, Default)]
pub(super) struct Redaction {
    fields: Vec<String>,
}

impl Redaction {
    pub(super) fn add(&mut self, fields: impl IntoIterator<Item = impl Into<String>>) {
        self.fields.extend(fields.into_iter().map(Into::into));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    fn hides(&self, key: &str) -> bool {
        // A key that starts with `$` is shown with another `$` before it.
        let key = if key.starts_with("$$") {
            &key[1..]
        } else {
            key
        };
        let mut fields = self.fields.iter();
        fields.any(|field| field.eq_ignore_ascii_case(key))
    }

    /// Replaces each redacted value with the marker.
    pub(super) fn hide(&self, value: &mut Value) {
        match value {
            Value::Array(list) => list.iter_mut().for_each(|value| self.hide(value)),
            Value::Object(map) => {
                if !self.is_empty() && has_nested_keys(map) {
                    *value = MARKER.into();
                    return;
                }
                for (key, value) in map {
                    if self.hides(key) {
                        *value = MARKER.into();
                    } else {
                        self.hide(value);
                    }
                }
            }
            _ => {}
        }
    }

    /// Restores the redacted values whose marker was not edited: by key in maps, by index in lists.
    pub(super) fn restore(
        &self,
        edited: &mut Value,
        original: Option<&Value>,
    ) -> Result<(), ViewError> {
        match edited {
            Value::String(text) if text == MARKER => {
                let before =
                    original.filter(|before| before.as_object().is_some_and(has_nested_keys));
                if let Some(before) = before.filter(|_| !self.is_empty()) {
                    *edited = before.clone();
                }
            }
            Value::Array(list) => {
                let before = original.and_then(Value::as_array);
                // In a list of another length it is unknown which value is which.
                let before = before.filter(|before| before.len() == list.len());
                for (place, value) in list.iter_mut().enumerate() {
                    self.restore(value, before.map(|before| &before[place]))?;
                }
            }
            Value::Object(map) => {
                for (key, value) in map {
                    let before = original.and_then(|original| original.get(key));
                    if self.hides(key) && value == MARKER {
                        let lost = || ViewError::Redacted { field: key.clone() };
                        *value = before.ok_or_else(lost)?.clone();
                    } else {
                        self.restore(value, before)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether a key represents a list or a map, which could contain a redacted field.
fn has_nested_keys(map: &Map<String, Value>) -> bool {
    let mut keys = map.keys();
    keys.any(|key| key.starts_with("$[") || key.starts_with("${"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{
        codec::{Codec, CodecName, Json, MessagePack},
        inspector::Viewer,
    };

    fn viewer() -> Viewer {
        Viewer::default().redact(["password", "$ref"])
    }

    #[test]
    fn fields_are_hidden_at_any_depth_ignoring_case() {
        let value = json!({
            "user": "ada",
            "PassWord": { "old": "s3cret" },
            "list": [{ "password": ["s3cret"] }, { "passwords": 1 }],
        });
        for (codec, bytes) in [
            (
                CodecName::of::<Json>(),
                Json::encode(&value).expect("encoded"),
            ),
            (
                CodecName::of::<MessagePack>(),
                MessagePack::encode(&value).expect("encoded"),
            ),
        ] {
            let expected = json!({
                "user": "ada",
                "PassWord": MARKER,
                "list": [{ "password": MARKER }, { "passwords": 1 }],
            });
            assert_eq!(viewer().show(&codec, &bytes), expected);
        }
        let bytes = MessagePack::encode(&json!({ "$ref": "s3cret" })).expect("encoded");
        let shown = viewer().show(&CodecName::of::<MessagePack>(), &bytes);
        assert_eq!(shown, json!({ "$$ref": MARKER }));
    }

    /// Its content is unknown.
    #[test]
    fn an_undecodable_payload_is_hidden_completely() {
        let shown = viewer().show(&CodecName::of::<Json>(), b"{\"password\":");
        assert_eq!(shown["$base64"], MARKER);
        assert!(shown["$error"].is_string(), "{shown}");
    }

    /// It may contain redacted fields in any form.
    #[test]
    fn an_undecodable_envelope_is_hidden_too() {
        let bytes =
            MessagePack::encode(&json!({ "p": { "password": "s3cret" } })).expect("encoded");
        let codec = CodecName::unreadable();
        assert_eq!(viewer().show(&codec, &bytes)["$base64"], MARKER);
        assert_eq!(
            Viewer::default().show(&codec, &bytes)["p"]["password"],
            "s3cret"
        );
    }

    #[test]
    fn a_map_whose_keys_are_maps_is_hidden_and_kept_by_an_edit() {
        let codec = CodecName::of::<MessagePack>();
        let original = json!({ "a": 1, "b": { "${\"password\":\"s3cret\"}": 1 } });
        let bytes = Viewer::default().parse(&codec, &original).expect("encoded");
        let mut shown = viewer().show(&codec, &bytes);
        assert_eq!(shown, json!({ "a": 1, "b": MARKER }));
        shown["a"] = 2.into();
        let edited = viewer().edit(&codec, &bytes, &shown).expect("encoded");
        let edited = Viewer::default().show(&codec, &edited);
        assert_eq!((&edited["a"], &edited["b"]), (&json!(2), &original["b"]));
    }

    fn edit(original: &Value, edited: Value) -> Result<Value, String> {
        let bytes = Json::encode(original).expect("encoded");
        let edited = viewer().edit(&CodecName::of::<Json>(), &bytes, &edited);
        let edited = edited.map_err(|error| error.to_string())?;
        Ok(Json::decode(&edited).expect("decoded"))
    }

    #[test]
    fn an_edit_keeps_redacted_values_unless_it_replaces_them() {
        let original = json!({ "n": 1, "all": [{ "password": "a" }, { "password": "b" }] });
        let edited = json!({ "n": 2, "all": [{ "password": MARKER }, { "password": "c" }] });
        let expected = json!({ "n": 2, "all": [{ "password": "a" }, { "password": "c" }] });
        assert_eq!(edit(&original, edited), Ok(expected));
    }

    #[test]
    fn a_marker_without_an_original_value_is_refused_by_its_field() {
        let original = json!({ "all": [{ "password": "a" }], "password": "b" });
        for edited in [
            json!({ "all": [{ "password": MARKER }, { "password": "c" }] }),
            json!({ "nested": { "password": MARKER } }),
            json!({ "Password": MARKER }),
        ] {
            let refused = edit(&original, edited)
                .expect_err("no value")
                .to_lowercase();
            assert!(refused.contains("`password`"), "{refused}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::from),
            "s3cret-[a-z]{4}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let key = prop_oneof![
                Just("password".to_owned()),
                Just("PASSWORD".to_owned()),
                "[a-c]"
            ];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(key, inner, 0..4)
                    .prop_map(|map| map.into_iter().collect::<Value>()),
            ]
        })
    }

    proptest! {
        #[test]
        fn an_unchanged_edit_restores_the_same_value(original in value()) {
            for codec in [CodecName::of::<Json>(), CodecName::of::<MessagePack>()] {
                let bytes = Viewer::default().parse(&codec, &original).expect("encoded");
                let shown = viewer().show(&codec, &bytes);
                let edited = viewer().edit(&codec, &bytes, &shown).expect("encoded");
                prop_assert_eq!(Viewer::default().show(&codec, &edited), original.clone());
            }
        }

        #[test]
        fn no_part_of_a_redacted_value_is_shown(hidden in value()) {
            let bytes = Json::encode(&json!({ "a": [{ "Password": hidden }] })).expect("encoded");
            let shown = viewer().show(&CodecName::of::<Json>(), &bytes).to_string();
            prop_assert!(!shown.contains("s3cret"), "{}", shown);
        }
    }
}
