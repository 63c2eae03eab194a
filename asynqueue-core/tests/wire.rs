//! The encoding of envelopes: what this version writes, how it reads older and newer versions, and what it refuses.
//!
//! The files in `golden/` were written by hand from `docs/src/protocol.md`, not by the code under test. Never change
//! them: tasks with these bytes wait in the queues of users.

use std::{collections::HashMap, sync::Arc, time::Duration};

use asynqueue_core::{
    codec::{Codec, CodecName, Json, MessagePack},
    task::{
        Backoff, Envelope, EnvelopeChanges, Failure, FailureKind, Name, Run, TaskId, TaskOptions,
        Timestamp, UniqueKey, UniqueLock, UniqueUntil, WireError,
    },
};
use bytes::Bytes;
use proptest::{collection, option, prelude::*};
use rmpv::Value;

const MINIMAL: &[u8] = include_bytes!("golden/minimal.bin");
const FULL: &[u8] = include_bytes!("golden/full.bin");
const OLDER: &[u8] = include_bytes!("golden/older.bin");
const NEWER: &[u8] = include_bytes!("golden/newer.bin");
const CHANGES: &[u8] = include_bytes!("golden/changes.bin");

const SENT: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn id() -> TaskId {
    TaskId::new("order-42").expect("valid")
}

fn read(bytes: &[u8]) -> Result<Envelope, WireError> {
    Envelope::from_bytes("default".into(), id(), bytes)
}

fn refused(bytes: &[u8]) -> String {
    read(bytes).expect_err("refused").to_string()
}

fn failure(attempt: u32, at: Timestamp, kind: FailureKind, message: &str) -> Failure {
    Failure::new(attempt, at, kind, message)
}

fn minimal() -> Envelope {
    let payload = b"\x81\xa7user_id\x2a";
    let codec = CodecName::of::<MessagePack>();
    let mut task = Envelope::new(id(), "email:welcome", codec, Bytes::from_static(payload));
    task.enqueued_at = SENT;
    task
}

fn full() -> Envelope {
    let mut options = TaskOptions::default();
    options.max_retry = 5;
    options.timeout = Duration::from_secs(30);
    options.retention = Duration::from_secs(24 * 3600);
    options.priority = 9;
    options.group = Some("tenant-a".into());
    options.backoff = Backoff::Exponential {
        base: Duration::from_secs(1),
        max: Duration::from_secs(60),
    };
    let mut task = minimal();
    task.payload = Bytes::from_static(br#"{"user_id":42}"#);
    task.codec = CodecName::of::<Json>();
    task.options = Arc::new(options);
    task.headers.insert("trace", "größe");
    task.headers.insert("tenant", "acme");
    task.deadline = Some(SENT + Duration::from_secs(3600));
    task.attempts = 2;
    task.unique = Some(Box::new(UniqueLock::new(
        UniqueKey::new("customer-42"),
        UniqueUntil::Window,
        Duration::from_secs(3600),
    )));
    let second = Duration::from_secs(1);
    task.push_failure(failure(1, SENT + second, FailureKind::LeaseExpired, "lost"));
    let mut panicked = failure(2, SENT + 2 * second, FailureKind::Panic, "boom");
    panicked.backtrace = Some("at main.rs:7".into());
    panicked.worker = Some("host:1:x".into());
    task.push_failure(panicked);
    task
}

#[test]
fn an_envelope_is_written_as_the_golden_bytes_and_read_back() {
    for (task, golden) in [(minimal(), MINIMAL), (full(), FULL)] {
        assert_eq!(task.to_bytes(), golden);
        assert_eq!(read(golden).expect("reads"), task);
    }
}

#[test]
fn bytes_of_an_older_version_are_read_with_the_defaults() {
    let mut expected = minimal();
    expected.enqueued_at = Timestamp::default();
    expected.push_failure(failure(1, SENT, FailureKind::Error, "no"));
    assert_eq!(read(OLDER).expect("reads"), expected);
}

#[test]
fn bytes_of_a_newer_version_are_read_and_keep_their_unknown_fields() {
    let task = read(NEWER).expect("reads");
    assert_eq!(task.event, "email:welcome");
    assert_eq!(
        task.options.backoff,
        Backoff::Standard,
        "`fibonacci` is not known here"
    );
    assert_eq!(task.unique, None, "`weekend` is not known here");
    assert_eq!(task.failures()[0].kind, FailureKind::Other);

    let before = fields(NEWER);
    let after = fields(&task.to_bytes());
    for key in ["x", "shard", "u", "b"] {
        assert_eq!(field(&after, key), field(&before, key), "{key}");
        assert!(field(&after, key).is_some(), "{key}");
    }
    assert_eq!(after.len(), before.len());
    assert_eq!(read(&task.to_bytes()).expect("reads"), task);
}

fn fields(mut bytes: &[u8]) -> Vec<(Value, Value)> {
    match rmpv::decode::read_value(&mut bytes) {
        Ok(Value::Map(fields)) => fields,
        other => panic!("not a map: {other:?}"),
    }
}

fn field<'a>(fields: &'a [(Value, Value)], key: &str) -> Option<&'a Value> {
    let found = fields.iter().find(|(name, _)| name.as_str() == Some(key));
    found.map(|(_, value)| value)
}

/// The minimal envelope with one field changed, encoded by another library than the one under test.
fn with(key: &str, value: Value) -> Vec<u8> {
    let mut fields = fields(MINIMAL);
    fields.retain(|(name, _)| name.as_str() != Some(key));
    fields.push((key.into(), value));
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &Value::Map(fields)).expect("writes to memory");
    bytes
}

fn list(values: &[Value]) -> Value {
    Value::Array(values.to_vec())
}

#[test]
fn a_higher_version_is_refused() {
    let start = "invalid task envelope: ";
    assert_eq!(
        refused(&with("v", 2.into())),
        format!("{start}unsupported version 2: expected at most 1")
    );
    assert_eq!(
        refused(&with("v", 0.into())),
        format!("{start}unsupported version 0: expected at most 1")
    );
}

#[test]
fn invalid_bytes_are_refused_with_the_reason() {
    let followed = [MINIMAL, b"\x01"].concat();
    let no_version: Vec<u8> = [b"\x83", &MINIMAL[4..]].concat();
    for (bytes, problem) in [
        (b"".to_vec(), "failed to fill whole buffer"),
        (b"\xc1".to_vec(), "Reserved"),
        (
            b"\x93\x01\x02\x03".to_vec(),
            "expected a map of task fields",
        ),
        (b"\x80".to_vec(), "missing field `v`"),
        (no_version, "missing field `v`"),
        (
            MINIMAL[..MINIMAL.len() - 1].to_vec(),
            "failed to fill whole buffer",
        ),
        (followed, "unexpected bytes after the map"),
        (with("e", "".into()), "missing field `e`"),
        (with("p", "text".into()), "expected a binary payload"),
        (
            with("n", (-1).into()),
            "invalid value: integer `-1`, expected u32",
        ),
        (with("y", 10.into()), "priority `y` is 10: expected 0 to 9"),
        (
            with("o", 0.into()),
            "timeout `o` is 0: expected at least 1 millisecond",
        ),
        (
            with("u", "key".into()),
            "invalid lock `u`: expected a key, `start`, `success` or `window`, and milliseconds",
        ),
        (
            with("u", list(&["key".into(), "start".into()])),
            "invalid lock `u`: expected a key, `start`, `success` or `window`, and milliseconds",
        ),
        (
            with("u", list(&["key".into(), "start".into(), 0.into()])),
            "ttl of lock `u` is 0",
        ),
        (
            with("b", list(&[])),
            "invalid backoff `b`: expected a kind and milliseconds",
        ),
        (
            with("b", list(&["fixed".into()])),
            "invalid backoff `b`: expected a kind and milliseconds",
        ),
        (
            with("b", list(&["fixed".into(), (-1).into()])),
            "invalid backoff `b`: expected a kind and milliseconds",
        ),
    ] {
        let error = refused(&bytes);
        assert!(error.contains(problem), "{bytes:02x?}: {error}");
    }
}

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The minimal envelope with the golden changes applied.
fn changed() -> Envelope {
    let mut task = read(&with("shard", 7.into())).expect("reads");
    let second = Duration::from_secs(1);
    task.attempts = 2;
    task.push_failure(failure(1, SENT + second, FailureKind::LeaseExpired, "lost"));
    let (started, ended) = (SENT + 2 * second, SENT + 3 * second);
    task.set_completed(Run::new(started, ended, "host:1:x".into()));
    task.set_unhandled_since(Some(SENT));
    task.set_place(Some(7));
    task.headers.insert("traceparent", TRACEPARENT);
    // There is no other public way to record that a worker has started it.
    let bytes = task.to_bytes();
    let started = [&bytes[..1], b"\xa1i\xc3", &bytes[1..]].concat();
    let started = [&[started[0] + 1], &started[1..]].concat();
    read(&started).expect("reads")
}

#[test]
fn changes_are_the_golden_bytes_and_update_a_stored_envelope() {
    let changed = changed();
    let changes = EnvelopeChanges::of(&changed);
    assert_eq!(changes.to_bytes(), CHANGES);
    assert_eq!(
        EnvelopeChanges::from_bytes(CHANGES).expect("reads"),
        changes
    );

    let mut task = minimal();
    task.headers.insert("traceparent", "the producer's");
    task.headers.insert("tenant", "acme");
    let mut expected = changed.clone();
    expected.headers.insert("tenant", "acme");
    task.apply(changes);
    assert_eq!(task, expected);
    // Absent fields are reset, and the producer's fields are kept.
    task.apply(EnvelopeChanges::of(&minimal()));
    let mut expected = read(&with("shard", 7.into())).expect("reads");
    expected.headers.insert("tenant", "acme");
    assert_eq!(task, expected);
}

#[test]
fn changes_keep_values_of_a_later_version_in_the_producers_fields() {
    let task = read(NEWER).expect("reads");
    let bytes = EnvelopeChanges::of(&task).to_bytes();
    let known: Vec<_> = fields(&bytes)
        .iter()
        .map(|(key, _)| key.to_string())
        .collect();
    assert_eq!(known, ["\"v\"", "\"f\"", "\"shard\"", "\"x\""]);
    let mut same = task.clone();
    same.apply(EnvelopeChanges::from_bytes(&bytes).expect("reads"));
    for key in ["x", "shard", "u", "b"] {
        let (before, after) = (fields(NEWER), fields(&same.to_bytes()));
        assert_eq!(field(&after, key), field(&before, key), "{key}");
    }
    assert_eq!(fields(&same.to_bytes()).len(), fields(NEWER).len());
}

#[test]
fn changes_of_a_higher_version_and_invalid_bytes_are_refused() {
    let start = "invalid task changes: ";
    for (bytes, problem) in [
        (
            &b"\x81\xa1v\x02"[..],
            "unsupported version 2: expected at most 1",
        ),
        (b"\x80", "missing field `v`"),
        (b"\x81\xa1v\x01\x01", "unexpected bytes after the map"),
        (
            b"\x82\xa1v\x01\xa1n\xff",
            "invalid value: integer `-1`, expected u32",
        ),
    ] {
        let error = EnvelopeChanges::from_bytes(bytes)
            .expect_err("refused")
            .to_string();
        assert!(
            error.starts_with(start) && error.contains(problem),
            "{error}"
        );
    }
}

/// Otherwise it would expire although a worker had started it in time.
#[test]
fn the_start_of_an_expiring_task_is_stored() {
    let mut started = fields(MINIMAL);
    started.push(("l".into(), (SENT.as_millis() + 1).into()));
    let expiring = started.clone();
    started.push(("i".into(), true.into()));
    let written = |fields| {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &Value::Map(fields)).expect("writes to memory");
        bytes
    };
    let later = SENT + Duration::from_secs(1);
    let read_back = |bytes: &[u8]| {
        let task = read(bytes).expect("reads");
        assert_eq!(task.to_bytes(), bytes);
        task.is_expired(later)
    };
    assert!(read_back(&written(expiring)));
    assert!(!read_back(&written(started)));
}

#[test]
fn a_released_task_stores_a_time_and_a_place() {
    let mut task = minimal();
    task.set_unhandled_since(Some(SENT));
    task.set_place(Some(42));
    let bytes = task.to_bytes();
    let fields = fields(&bytes);
    assert_eq!(field(&fields, "w"), Some(&SENT.as_millis().into()));
    assert_eq!(field(&fields, "q"), Some(&42.into()));
    assert_eq!(read(&bytes).expect("reads"), task);
    task.set_unhandled_since(None);
    task.set_place(None);
    assert_eq!(task.to_bytes(), MINIMAL, "nothing is left of it");
}

#[test]
fn a_copy_stores_its_origin() {
    let mut task = minimal();
    task.set_origin(Some(TaskId::new("order-7").expect("an id")));
    let bytes = task.to_bytes();
    assert_eq!(field(&fields(&bytes), "m"), Some(&"order-7".into()));
    assert_eq!(read(&bytes).expect("reads"), task);
    task.set_origin(None);
    assert_eq!(task.to_bytes(), MINIMAL, "nothing is left of it");
}

#[test]
fn a_time_contained_in_the_generated_id_is_left_out() {
    let id = TaskId::new("08EGOeVbdVQ00000000000").expect("an id");
    let mut task = minimal();
    task.id = id.clone();
    let read = |bytes: &[u8]| Envelope::from_bytes(Name::from("default"), id.clone(), bytes);
    let bytes = task.to_bytes();
    assert_eq!(bytes.len(), MINIMAL.len() - 11);
    assert_eq!(field(&fields(&bytes), "t"), None);
    assert_eq!(read(&bytes).expect("reads"), task);
    assert_eq!(read(MINIMAL).expect("reads"), task, "as others write it");

    task.enqueued_at = SENT + Duration::from_millis(1);
    let bytes = task.to_bytes();
    assert_eq!(
        field(&fields(&bytes), "t"),
        Some(&task.enqueued_at.as_millis().into())
    );
    assert_eq!(read(&bytes).expect("reads"), task);
}

#[test]
fn any_number_of_unknown_fields_is_kept() {
    for count in [0, 11, 12, 300, 70_000] {
        let mut all = fields(MINIMAL);
        all.extend((0..count).map(|n| (format!("x{n}").into(), Value::from(n))));
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &Value::Map(all)).expect("writes to memory");
        assert!(read(&bytes).expect("reads").to_bytes() == bytes, "{count}");
    }
}

#[test]
fn a_fraction_of_a_millisecond_is_rounded_up() {
    let mut options = TaskOptions::default();
    options.retention = Duration::from_micros(1);
    let mut task = minimal();
    task.options = Arc::new(options);
    let read = read(&task.to_bytes()).expect("reads");
    assert_eq!(read.options.retention, Duration::from_millis(1));
}

/// The worked examples of the specification.
mod specification {
    use super::*;

    const PROTOCOL: &str = include_str!("../../docs/src/protocol.md");

    /// The bytes of the first hex dump: the part before `;` in each line.
    fn hex_dump() -> Vec<u8> {
        let (_, dump) = PROTOCOL.split_once("```hex\n").expect("a dump");
        let (dump, _) = dump.split_once("```").expect("its end");
        dump.lines()
            .flat_map(|line| {
                line.split(';')
                    .next()
                    .unwrap_or_default()
                    .split_whitespace()
            })
            .map(|byte| u8::from_str_radix(byte, 16).expect("two digits"))
            .collect()
    }

    #[test]
    fn the_envelope_is_encoded_as_the_hex_dump() {
        assert_eq!(hex_dump(), minimal().to_bytes());
    }

    #[test]
    fn the_unique_key_is_as_specified() {
        let payload = MessagePack::encode(&[42]).expect("encodes");
        assert_eq!(payload, [0x91, 0x2a]);
        let key = UniqueKey::of_bytes("email:welcome", &payload);
        assert!(PROTOCOL.contains(key.as_str()), "{key:?}");
        let of_value = UniqueKey::of_value::<MessagePack>("email:welcome", &(42,));
        assert_eq!(of_value.expect("encodes"), key);
    }

    #[test]
    fn the_unique_key_of_a_map_is_that_of_its_sorted_entries() {
        let of = |value: &HashMap<&str, i8>| {
            UniqueKey::of_value::<MessagePack>("e", value).expect("encodes")
        };
        // {"b": -1, "aa": 2}: sorted, the longer key is first.
        let sorted = UniqueKey::of_bytes("e", b"\x82\xa2aa\x02\xa1b\xff");
        for _ in 0..20 {
            assert_eq!(of(&HashMap::from([("b", -1), ("aa", 2)])), sorted);
        }
    }

    #[test]
    fn an_id_starts_with_its_time() {
        let before = now();
        let id = TaskId::generate();
        let after = now();
        let digits = |text: &str| {
            text.chars().fold(0_u64, |n, digit| {
                let value = match digit {
                    '0'..='9' => digit as u64 - '0' as u64,
                    'A'..='Z' => digit as u64 - 'A' as u64 + 10,
                    'a'..='z' => digit as u64 - 'a' as u64 + 36,
                    _ => panic!("{digit} is not a digit"),
                };
                n * 62 + value
            })
        };
        let (time, random) = id.as_str().split_at(11);
        assert!((before..=after).contains(&(digits(time) >> 16)));
        assert_ne!(digits(random), 0);
    }

    fn now() -> u64 {
        let age = std::time::SystemTime::UNIX_EPOCH.elapsed();
        age.expect("after 1970").as_millis() as u64
    }
}

fn millis() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_millis)
}

fn backoffs() -> impl Strategy<Value = Backoff> {
    prop_oneof![
        Just(Backoff::Standard),
        millis().prop_map(Backoff::Fixed),
        (millis(), millis()).prop_map(|(base, max)| Backoff::Exponential { base, max }),
    ]
}

fn locks() -> impl Strategy<Value = UniqueLock> {
    let until = prop_oneof![
        Just(UniqueUntil::Start),
        Just(UniqueUntil::Success),
        Just(UniqueUntil::Window)
    ];
    (any::<String>(), until, 1..u64::MAX).prop_map(|(key, until, ttl)| {
        UniqueLock::new(UniqueKey::new(key), until, Duration::from_millis(ttl))
    })
}

fn failures() -> impl Strategy<Value = Failure> {
    let kinds = prop_oneof![
        Just(FailureKind::Error),
        Just(FailureKind::LeaseExpired),
        Just(FailureKind::UnknownEvent),
        Just(FailureKind::MissingState),
        Just(FailureKind::Other)
    ];
    let text = (
        any::<String>(),
        option::of(any::<String>()),
        option::of(any::<String>()),
    );
    (any::<u32>(), any::<u64>(), kinds, text).prop_map(
        |(attempt, at, kind, (message, backtrace, worker))| {
            let mut failure = Failure::new(attempt, Timestamp::from_millis(at), kind, message);
            failure.backtrace = backtrace;
            failure.worker = worker.map(Name::from);
            failure
        },
    )
}

prop_compose! {
    fn options()(
        max_retry in any::<u32>(),
        timeout in 1..u64::MAX,
        retention in millis(),
        priority in 0..=9_u8,
        group in option::of(any::<String>()),
        backoff in backoffs(),
    ) -> TaskOptions {
        let mut options = TaskOptions::default();
        options.max_retry = max_retry;
        options.timeout = Duration::from_millis(timeout);
        options.retention = retention;
        options.priority = priority;
        options.group = group.map(Name::from);
        options.backoff = backoff;
        options
    }
}

prop_compose! {
    fn envelopes()(
        event in ".+",
        payload in collection::vec(any::<u8>(), 0..300),
        options in options(),
        headers in collection::btree_map(any::<String>(), any::<String>(), 0..20),
        (enqueued_at, deadline, attempts) in (any::<u64>(), option::of(any::<u64>()), any::<u32>()),
        unique in option::of(locks()),
        failures in collection::vec(failures(), 0..=Failure::KEPT),
        (unhandled_since, place) in (option::of(any::<u64>()), option::of(any::<u64>())),
        is_copy in any::<bool>(),
    ) -> Envelope {
        let mut task = Envelope::new(id(), event, CodecName::of::<Json>(), payload.into());
        task.options = Arc::new(options);
        task.headers = headers.into_iter().collect();
        task.enqueued_at = Timestamp::from_millis(enqueued_at);
        task.deadline = deadline.map(Timestamp::from_millis);
        task.attempts = attempts;
        task.unique = unique.map(Box::new);
        failures.into_iter().for_each(|failure| task.push_failure(failure));
        task.set_unhandled_since(unhandled_since.map(Timestamp::from_millis));
        task.set_place(place);
        task.set_origin(is_copy.then(id));
        task
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_envelope_is_read_back_unchanged(task in envelopes()) {
        prop_assert_eq!(read(&task.to_bytes()).expect("reads"), task);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }

    #[test]
    fn damaged_bytes_do_not_panic(place in 0..FULL.len(), byte in any::<u8>()) {
        let mut bytes = FULL.to_vec();
        bytes[place] = byte;
        let _ = read(&bytes);
    }
}
