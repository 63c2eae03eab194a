//! Equal values have equal forms, and ordered values keep their order.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt::Debug,
    net::IpAddr,
};

use serde::Serialize;
use serde_json::{Value, json};

use super::*;
use crate::codec::{Json, MessagePack};

const TIMES: usize = 20;

/// Has the same entries each time, in a different order.
fn map() -> HashMap<String, u64> {
    (0..6).map(|n| (format!("key {n}"), n)).collect()
}

fn set() -> HashSet<u64> {
    (0..6).collect()
}

#[derive(Debug, Serialize)]
struct Deep {
    name: &'static str,
    #[serde(flatten)]
    labels: HashMap<String, u64>,
    sets: Vec<Option<Cow<'static, HashSet<u64>>>>,
    by_set: HashMap<u8, Inner>,
    #[serde(flatten)]
    last: Inner,
}

#[derive(Debug, Serialize)]
#[serde(tag = "kind")]
enum Inner {
    Tagged { tags: HashSet<u64>, zero: f64 },
}

#[derive(Debug, Serialize)]
struct Tags(HashSet<u64>);

/// The distinct forms of a value that is built repeatedly.
fn forms<C: Codec, T: Serialize>(make: impl Fn(usize) -> T) -> usize {
    let encoded = (0..TIMES).map(|n| encode::<C, _>(&make(n)).expect("encodes"));
    encoded.collect::<BTreeSet<_>>().len()
}

#[test]
fn equal_values_have_one_form_regardless_of_order() {
    let zero = |n| if n % 2 == 0 { 0.0 } else { -0.0 };
    let inner = |n| Inner::Tagged {
        tags: set(),
        zero: zero(n),
    };
    let deep = |n| Deep {
        name: "deep",
        labels: map(),
        sets: vec![None, Some(Cow::Owned(set()))],
        by_set: (0..4).map(|key| (key, inner(n))).collect(),
        last: inner(n),
    };
    assert_eq!(forms::<MessagePack, _>(|_| map()), 1);
    assert_eq!(forms::<MessagePack, _>(|_| set()), 1);
    assert_eq!(forms::<MessagePack, _>(|_| (set(), map())), 1);
    assert_eq!(forms::<MessagePack, _>(|_| Tags(set())), 1);
    assert_eq!(forms::<MessagePack, _>(zero), 1);
    assert_eq!(forms::<MessagePack, _>(|n| zero(n) as f32), 1);
    assert_eq!(forms::<MessagePack, _>(deep), 1);
    assert_eq!(forms::<Json, _>(deep), 1);
    // Otherwise this test would prove nothing.
    let plain = (0..TIMES).map(|n| MessagePack::encode(&deep(n)).expect("encodes"));
    assert!(plain.collect::<BTreeSet<_>>().len() > 1);
}

fn is_unchanged<T: Serialize + Debug>(value: &T) {
    let forms = [
        (MessagePack::encode(value), encode::<MessagePack, _>(value)),
        (Json::encode(value), encode::<Json, _>(value)),
    ];
    for (plain, canonical) in forms {
        assert_eq!(
            canonical.expect("encodes"),
            plain.expect("encodes"),
            "{value:?}"
        );
    }
}

#[derive(Debug, Serialize)]
struct Fields<M> {
    z: u8,
    a: u8,
    #[serde(flatten)]
    rest: M,
}

fn fields<M>(rest: M) -> Fields<M> {
    Fields { z: 1, a: 2, rest }
}

#[test]
fn ordered_values_keep_their_order() {
    let numbers = || [300_u32, 4, 70_000];
    let text = || ["longer", "b", "äöü", "a"].map(|text| (text.to_owned(), 0_u8));
    is_unchanged(&[3, 1, 2]);
    is_unchanged(&("b", 'a', 1_i128 << 100, [0_u8; 4], Some(()), 2.5_f32));
    is_unchanged(&fields(fields(())));
    is_unchanged(&fields(BTreeMap::from(text())));
    is_unchanged(&BTreeMap::from(text()));
    is_unchanged(&BTreeMap::from(numbers().map(|n| (n, n))));
    is_unchanged(&BTreeMap::from(numbers().map(|n| (-i64::from(n), n))));
    is_unchanged(&Box::new(BTreeMap::from(
        [("9.0.0.0", 1), ("10.0.0.0", 2)]
            .map(|(ip, n)| (ip.parse::<IpAddr>().expect("an address"), n)),
    )));
    is_unchanged(&BTreeSet::from(numbers().map(Reverse)));
    is_unchanged(&json!({ "b": [{ "z": 1, "a": -0.5 }], "a": null }));
    is_unchanged(&Value::Null);
    let extension = [rmpv::Value::Ext(5, vec![1, 2, 3]), (-0.0).into()];
    let zero = [rmpv::Value::Ext(5, vec![1, 2, 3]), (0.0).into()];
    assert_eq!(
        encode::<MessagePack, _>(&extension).expect("encodes"),
        MessagePack::encode(&zero).expect("encodes")
    );
}

#[test]
fn the_order_of_a_list_and_the_content_of_a_set_are_significant() {
    let list = |list: [u8; 2]| encode::<MessagePack, _>(&list.to_vec()).expect("encodes");
    assert_ne!(list([1, 2]), list([2, 1]));
    let set = |set: [u8; 2]| encode::<MessagePack, _>(&HashSet::from(set)).expect("encodes");
    assert_eq!(set([1, 2]), set([2, 1]));
    assert_ne!(set([1, 2]), set([1, 3]));
    let map = |value| {
        let map = HashMap::from([(1, value), (2, 0)]);
        encode::<MessagePack, _>(&map).expect("encodes")
    };
    assert_ne!(map(1), map(2));
}
