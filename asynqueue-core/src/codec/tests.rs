//! Every encoded value can be decoded, by this build and by earlier ones, or is refused.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use super::*;

/// A type with two forms, like `Uuid`: bytes in compact codecs, digits in human-readable ones.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Id([u8; 2]);

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.collect_str(&u16::from_be_bytes(self.0)),
            false => serializer.serialize_bytes(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        if deserializer.is_human_readable() {
            let digits = String::deserialize(deserializer)?;
            let number: u16 = digits.parse().map_err(Error::custom)?;
            return Ok(Self(number.to_be_bytes()));
        }
        struct Bytes;
        impl serde::de::Visitor<'_> for Bytes {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("two bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Id, E> {
                let bytes = bytes.try_into();
                bytes.map(Id).map_err(|_| E::custom("not two bytes"))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Parts {
    ip: IpAddr,
    socket: SocketAddr,
    id: Id,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Tagged {
    With(Parts),
    Alone { id: Id },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u64),
    Ip(IpAddr),
    Parts(Parts),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flattened {
    first: Id,
    #[serde(flatten)]
    parts: Parts,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Mixed {
    plain: Parts,
    tagged: Vec<Tagged>,
    by_id: HashMap<String, Untagged>,
}

fn parts() -> Parts {
    Parts {
        ip: IpAddr::from([192, 0, 2, 7]),
        socket: SocketAddr::from(([192, 0, 2, 7], 80)),
        id: Id([1, 2]),
    }
}

fn compact<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("encodes")
}

/// Encodes and decodes a value, and returns its bytes.
fn round_trip<C: Codec, T>(value: &T) -> Vec<u8>
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let bytes = C::encode_checked(value).unwrap_or_else(|error| panic!("{value:?}: {error}"));
    let decoded: T = C::decode(&bytes).unwrap_or_else(|error| panic!("{value:?}: {error}"));
    assert_eq!(decoded, *value);
    bytes
}

#[test]
fn types_with_two_forms_are_decodable_in_tagged_untagged_and_flattened_types() {
    let flattened = Flattened {
        first: Id([3, 4]),
        parts: parts(),
    };
    let untagged = [
        Untagged::Number(7),
        Untagged::Ip(parts().ip),
        Untagged::Parts(parts()),
    ];
    let mixed = Mixed {
        plain: parts(),
        tagged: vec![Tagged::With(parts()), Tagged::Alone { id: Id([5, 6]) }],
        by_id: (0..9)
            .map(|n| (n.to_string(), untagged[n % 3].clone()))
            .collect(),
    };
    round_trip::<MessagePack, _>(&Tagged::With(parts()));
    round_trip::<MessagePack, _>(&untagged);
    round_trip::<MessagePack, _>(&flattened);
    round_trip::<MessagePack, _>(&mixed);
    round_trip::<Json, _>(&mixed);
}

#[test]
fn a_build_with_only_the_compact_form_reads_all_it_could_and_tagged_types_too() {
    let value = (parts(), u128::MAX, i128::MIN, -7_i64, "text");
    assert_eq!(
        MessagePack::encode_checked(&parts()).expect("encodes"),
        compact(&parts())
    );
    let bytes = round_trip::<MessagePack, _>(&(value.1, value.2, value.3));
    assert_eq!(bytes, compact(&(value.1, value.2, value.3)));

    let tagged = Tagged::With(parts());
    rmp_serde::from_slice::<Tagged>(&compact(&tagged)).expect_err("which is why it has another");
    let bytes = round_trip::<MessagePack, _>(&tagged);
    assert_eq!(
        rmp_serde::from_slice::<Tagged>(&bytes).expect("read"),
        tagged
    );
}

#[test]
fn values_written_by_earlier_builds_are_decoded() {
    for bytes in [
        compact(&parts()),
        MessagePack::encode_readable(&parts()).expect("encodes"),
    ] {
        assert_eq!(
            MessagePack::decode::<Parts>(&bytes).expect("decodes"),
            parts()
        );
    }
}

#[test]
fn a_value_for_unknown_readers_is_decoded_by_all_of_them() {
    let tagged = Tagged::With(parts());
    let bytes = MessagePack::encode_for_any(&(&tagged, parts())).expect("encodes");
    let decoded: (Tagged, Parts) = MessagePack::decode(&bytes).expect("decodes");
    assert_eq!(decoded, (tagged, parts()));
    assert_eq!(
        MessagePack::encode_for_any(&[1, 2]).expect("encodes"),
        compact(&[1, 2])
    );
}

#[test]
fn an_error_describes_the_form_of_the_bytes() {
    let error = |bytes: &[u8]| {
        let error = MessagePack::decode::<Parts>(bytes).expect_err("incomplete");
        error.to_string()
    };
    let without_id = BTreeMap::from([("ip", parts().ip)]);
    let missing = "missing field `socket`";
    let in_compact = error(&compact(&without_id));
    assert!(in_compact.starts_with(missing), "{in_compact}");
    let in_readable = error(&MessagePack::encode_readable(&without_id).expect("encodes"));
    assert!(in_readable.ends_with(missing), "{in_readable}");
}

/// A type whose human-readable form is text, and which decodes that text as bytes if it expects bytes.
#[derive(Clone, Debug, PartialEq)]
struct Hex(Vec<u8>);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.serialize_str(&"ab".repeat(self.0.len())),
            false => serializer.serialize_bytes(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let is_readable = deserializer.is_human_readable();
        let text = String::deserialize(deserializer)?;
        let len = if is_readable {
            text.len() / 2
        } else {
            text.len()
        };
        Ok(Self(vec![0xab; len]))
    }
}

#[test]
fn a_value_that_would_be_decoded_as_another_is_refused() {
    let value = (Hex(vec![0xab; 3]), Tagged::With(parts()));
    let error = MessagePack::encode_checked(&value).expect_err("ambiguous");
    assert!(error.to_string().contains("cannot be decoded"), "{error}");
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Wide {
    Number { wide: u128 },
}

#[test]
fn a_number_of_128_bits_that_serde_cannot_read_is_refused_with_the_reason() {
    let value = Wide::Number { wide: 1 };
    for error in [
        MessagePack::encode_checked(&value).expect_err("refused"),
        Json::encode_checked(&value).expect_err("refused"),
    ] {
        eprintln!("{error}");
        assert!(error.to_string().contains("u128"), "{error}");
    }
    round_trip::<Json, _>(&(1_u128 << 100));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    sensor: Sensor,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Sensor {
    value: Option<f64>,
    others: Vec<f32>,
}

#[test]
fn json_refuses_a_number_that_is_not_finite_by_its_field() {
    let reading = |value, other| Reading {
        sensor: Sensor {
            value,
            others: vec![0.5, other],
        },
    };
    let refused = [
        (
            reading(Some(f64::NAN), 1.0),
            "`sensor.value`: JSON cannot represent NaN",
        ),
        (
            reading(None, f32::INFINITY),
            "`sensor.others`: JSON cannot represent inf",
        ),
    ];
    for (value, expected) in refused {
        for error in [Json::encode(&value), Json::encode_checked(&value)] {
            let error = error.expect_err(expected).to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        MessagePack::encode_checked(&value).expect("has a form");
    }
    round_trip::<Json, _>(&reading(Some(-0.0), f32::MAX));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Counts {
    #[serde(flatten)]
    by_number: BTreeMap<u32, u32>,
}

#[test]
fn json_refuses_keys_that_it_writes_as_text_and_serde_cannot_read() {
    let by_number = BTreeMap::from([(1, 2)]);
    round_trip::<Json, _>(&by_number);
    let counts = Counts { by_number };
    let error = Json::encode_checked(&counts).expect_err("refused");
    assert!(
        error.to_string().contains("invalid type: string \"1\""),
        "{error}"
    );
    round_trip::<MessagePack, _>(&counts);
}

/// Cannot be decoded, which its encoded form does not reveal.
#[derive(Debug, Serialize)]
struct OneWay(u8);

impl<'de> Deserialize<'de> for OneWay {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("only for writing"))
    }
}

#[test]
fn a_debug_build_decodes_everything_it_encodes() {
    for error in [
        MessagePack::encode_checked(&OneWay(1)),
        Json::encode_checked(&OneWay(1)),
    ] {
        let error = error.expect_err("cannot be read").to_string();
        assert!(error.ends_with("only for writing"), "{error}");
    }
}

#[test]
fn a_survey_changes_no_byte() {
    let value = serde_json::json!({ "a": [1, -1, 2.5, null, true, "x"], "b": { "c": {} } });
    let all = (value, 'c', (), Some(1_u8), Tagged::With(parts()), [1_u8; 3]);
    let survey = Survey::default();
    assert_eq!(compact(&survey.of(&all)), compact(&all));
    let extension = rmpv::Value::Ext(5, vec![1, 2, 3]);
    assert_eq!(compact(&survey.of(&extension)), compact(&extension));
    let json = |bytes: Result<Vec<u8>, serde_json::Error>| bytes.expect("encodes");
    assert_eq!(
        json(serde_json::to_vec(&survey.of(&all))),
        json(serde_json::to_vec(&all))
    );
}

#[test]
fn a_consumer_reads_the_bytes_of_any_built_in_codec() {
    for (name, bytes) in [
        (
            CodecName::of::<MessagePack>(),
            MessagePack::encode("hi").expect("encodes"),
        ),
        (
            CodecName::of::<Json>(),
            Json::encode("hi").expect("encodes"),
        ),
    ] {
        assert_eq!(
            name.decode::<String, MessagePack>(&bytes).expect("decodes"),
            "hi"
        );
    }
}

#[test]
fn an_unknown_codec_is_reported_with_the_known_ones() {
    let error = CodecName::from_wire("bson")
        .decode::<String, MessagePack>(b"")
        .expect_err("unknown");
    assert_eq!(
        error.to_string(),
        "unknown codec `bson`: expected one of msgpack, json"
    );
}

#[test]
fn a_release_build_decodes_values_that_could_fail() {
    let survey_of = |value: &dyn Fn(&Survey)| {
        let survey = Survey::default();
        value(&survey);
        (
            survey.readable().is_some(),
            survey.is_wide(),
            survey.has_other_keys(),
        )
    };
    let plain = (1, "a", [2.5], Some(HashMap::from([("a", -1)])));
    let other_keys = BTreeMap::from([((), BTreeMap::from([(1_u8, 'a')]))]);
    let notes = [
        survey_of(&|survey| drop(compact(&survey.of(&plain)))),
        survey_of(&|survey| drop(compact(&survey.of(&Some(parts()))))),
        survey_of(&|survey| drop(compact(&survey.of(&vec![1_i128])))),
        survey_of(&|survey| drop(compact(&survey.of(&other_keys)))),
    ];
    let expected = [
        (false, false, false),
        (true, false, false),
        (false, true, false),
        (false, false, true),
    ];
    assert_eq!(notes, expected);
}
