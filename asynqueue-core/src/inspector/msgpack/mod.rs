//! Conversion between MessagePack and JSON.
//!
//! [`Viewer`](super::Viewer) documents the format.

mod parse;
mod show;

pub(super) use self::{parse::parse, show::show};

const BINARY: &str = "$binary";
const EXTENSION: &str = "$ext";

/// The maximum nesting of keys: each level of keys in keys doubles the backslashes.
const KEY_DEPTH: usize = 2;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use rmpv::Value as Pack;
    use serde::{Deserialize, Serialize};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        codec::{Codec, MessagePack},
        inspector::view::{MAX_DEPTH, is_within},
    };

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Point,
        Circle(f64),
        Rectangle { width: u32, height: i64 },
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Payload {
        id: u64,
        offset: i64,
        ratio: f32,
        name: String,
        note: Option<String>,
        shapes: Vec<Shape>,
        by_number: BTreeMap<u32, String>,
        by_place: BTreeMap<(i8, i8), bool>,
        by_name: BTreeMap<String, ()>,
        #[serde(with = "bytes_of")]
        blob: Vec<u8>,
        huge: u128,
    }

    /// Bytes instead of a list of numbers.
    mod bytes_of {
        use rmpv::Value as Pack;
        use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

        pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
            to.serialize_bytes(bytes)
        }

        pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
            match Pack::deserialize(from)? {
                Pack::Binary(bytes) => Ok(bytes),
                Pack::String(text) => Ok(text.into_bytes()),
                other => Err(D::Error::custom(format!("{other} is not bytes"))),
            }
        }
    }

    fn shown(value: &Pack) -> Value {
        show(&MessagePack::encode(value).expect("encodes")).expect("shown")
    }

    fn parsed(json: &Value) -> Pack {
        MessagePack::decode(&parse(json).expect("parsed")).expect("decodes")
    }

    #[test]
    fn a_payload_is_the_same_after_showing_and_parsing() {
        for blob in [vec![0, 159, 146, 150], b"text".to_vec(), vec![], vec![7]] {
            let payload = Payload {
                id: u64::MAX,
                offset: i64::MIN,
                ratio: 0.1,
                name: "größe".into(),
                note: None,
                shapes: vec![
                    Shape::Point,
                    Shape::Circle(2.0),
                    Shape::Rectangle {
                        width: 1,
                        height: -2,
                    },
                ],
                by_number: [(7, "seven".into())].into(),
                by_place: [((-1, 2), true)].into(),
                by_name: [("$binary".into(), ()), ("$$".into(), ()), ("$7".into(), ())].into(),
                blob,
                huge: u128::MAX,
            };
            let json = show(&MessagePack::encode(&payload).expect("encodes")).expect("shown");
            let bytes = parse(&json).expect("parsed");
            assert_eq!(
                MessagePack::decode::<Payload>(&bytes).expect("decodes"),
                payload
            );
        }
    }

    #[test]
    fn values_without_a_json_form_are_marked_and_parsed_again() {
        for (value, json) in [
            (Pack::Binary(vec![0, 255]), json!({"$binary": "AP8="})),
            (Pack::Binary(vec![]), json!({"$binary": ""})),
            (
                Pack::Ext(-1, vec![1, 2]),
                json!({"$ext": {"type": -1, "data": "AQI="}}),
            ),
            (Pack::Map(vec![(7.into(), Pack::Nil)]), json!({"$7": null})),
            (
                Pack::Map(vec![(true.into(), 1.into())]),
                json!({"$true": 1}),
            ),
            (
                Pack::Map(vec![(Pack::Array(vec![1.into(), "a".into()]), 1.into())]),
                json!({"$[1,\"a\"]": 1}),
            ),
            (
                Pack::Map(vec![(Pack::Binary(vec![0]), 1.into())]),
                json!({"${\"$binary\":\"AA==\"}": 1}),
            ),
            (
                Pack::Map(vec![("$ref".into(), 1.into())]),
                json!({"$$ref": 1}),
            ),
            (Pack::from(u64::MAX), json!(u64::MAX)),
            (Pack::from(i64::MIN), json!(i64::MIN)),
            (Pack::F64(1.0), json!(1.0)),
        ] {
            assert_eq!(shown(&value), json);
            assert_eq!(parsed(&json), value, "{json}");
        }
    }

    #[test]
    fn readable_bytes_and_infinite_floats_are_shown_as_text() {
        for (value, json) in [
            (Pack::Binary(b"two\nlines".to_vec()), json!("two\nlines")),
            (Pack::F64(f64::NAN), json!("NaN")),
            (Pack::F64(f64::INFINITY), json!("Infinity")),
            (Pack::F32(f32::NEG_INFINITY), json!("-Infinity")),
            (Pack::F32(0.1), json!(0.1)),
        ] {
            assert_eq!(shown(&value), json);
        }
    }

    #[test]
    fn duplicate_and_deeply_nested_keys_are_refused() {
        let refused = |value: Pack| {
            let bytes = MessagePack::encode(&value).expect("encodes");
            show(&bytes).expect_err("refused").to_string()
        };
        let pair = |key| (key, Pack::Nil);
        let twice = Pack::Map(vec![pair("a".into()), pair("a".into())]);
        assert_eq!(refused(twice), "a map has key `a` twice");
        let deep = (0..100).fold(Pack::Nil, |key, _| Pack::Map(vec![pair(key)]));
        assert_eq!(
            refused(deep),
            "a map key is nested too deeply: expected at most 2 levels"
        );
    }

    #[test]
    fn a_shown_value_is_never_too_deep_to_be_parsed() {
        let nested = |levels| {
            let leaf = Pack::Ext(1, vec![0]);
            let value = (0..levels).fold(leaf, |inner, _| Pack::Array(vec![inner]));
            MessagePack::encode(&value).expect("encodes")
        };
        let shown = show(&nested(120)).expect("shown");
        assert!(is_within(&shown, MAX_DEPTH));
        assert_eq!(parse(&shown).expect("parsed"), nested(120));
        show(&nested(121)).expect_err("too deep");
    }

    #[test]
    fn a_malformed_marker_is_refused_with_its_place() {
        for (json, message) in [
            (
                json!({"a/b": [{"$binary": 5}]}),
                "at `/a~1b/0`: expected `{\"$binary\"",
            ),
            (json!({"$binary": "?"}), "at `/`: expected `{\"$binary\""),
            (json!({"$binary": "AA==", "x": 1}), "and nothing else"),
            (
                json!({"$ext": {"type": 128, "data": ""}}),
                "a type from -128 to 127",
            ),
            (
                json!({"x": {"$ref": 1}}),
                "at `/x`: expected JSON after the `$` of key `$ref`",
            ),
            (json!({"$[[[[[1]]]]]": 1}), "expected JSON after the `$`"),
        ] {
            let error = parse(&json).expect_err("refused").to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>()
                .prop_filter("finite", |n| n.is_finite())
                .prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 20, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[$a7]{0,3}", inner, 0..4)
                    .prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_shown_value_is_the_same_after_parsing(json in json()) {
            let bytes = MessagePack::encode(&json).expect("encodes");
            let shown = show(&bytes).expect("shown");
            prop_assert_eq!(parse(&shown).expect("parsed"), bytes);
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(shown) = show(&bytes) {
                parse(&shown).expect("parsed");
            }
        }
    }
}
