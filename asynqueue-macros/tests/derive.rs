//! What `#[derive(Task)]` generates.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use asynqueue_core::{
    codec::{Codec, Json, MessagePack},
    task::{Backoff, Task, TaskOptions, Unique, UniqueKey, UniqueUntil},
};
use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

const HOUR: Duration = Duration::from_secs(60 * 60);

#[derive(Serialize, Deserialize)]
struct Receipt {
    number: u64,
}

#[derive(Serialize, Deserialize, Task)]
#[task(event = "plain", crate = asynqueue_core)]
struct Plain;

#[derive(Serialize, Deserialize, Task)]
#[task(
    event = "email:welcome",
    queue = "critical",
    max_retry = 5,
    timeout = "1m30s",
    deadline = "1h",
    retention = "24h",
    backoff = exponential("250ms", "1h"),
    unique(ttl = "2h", until = "start", fields(user_id, r#type)),
    priority = 7,
    group = "tenant-a",
    codec = Json,
    output = Receipt,
    crate = ::asynqueue_core,
)]
struct Full {
    user_id: u64,
    r#type: String,
    note: String,
}

/// An enum, with the attribute in two parts.
#[derive(Serialize, Deserialize, Task)]
#[task(event = "pieces", crate = asynqueue_core)]
#[task(backoff = fixed("10s"), unique(ttl = "1h"), output = Vec<Receipt>)]
#[expect(clippy::upper_case_acronyms, reason = "the name is the point")]
enum Pieces {
    // Has the same names as the trait's items, which must not confuse the generated code.
    EVENT { options: u32 },
    Codec,
}

/// The default options with `change` applied.
fn options(change: impl FnOnce(&mut TaskOptions)) -> TaskOptions {
    let mut options = TaskOptions::default();
    change(&mut options);
    options
}

fn codec_of<T: Task>() -> &'static str {
    T::Codec::NAME
}

fn same_output<T: Task<Output = O>, O>() {}

#[test]
fn an_event_name_is_enough_and_keeps_the_defaults() {
    assert_eq!(Plain::EVENT, "plain");
    assert_eq!(codec_of::<Plain>(), MessagePack::NAME);
    same_output::<Plain, ()>();
    assert!(
        Arc::ptr_eq(&Plain::options(), &TaskOptions::shared_default()),
        "the defaults are not allocated again"
    );
}

#[test]
fn every_attribute_is_applied() {
    assert_eq!(Full::EVENT, "email:welcome");
    assert_eq!(codec_of::<Full>(), Json::NAME);
    same_output::<Full, Receipt>();
    let expected = options(|o| {
        o.queue = "critical".into();
        o.max_retry = 5;
        o.timeout = Duration::from_secs(90);
        o.deadline = Some(HOUR);
        o.retention = 24 * HOUR;
        o.backoff = Backoff::exponential(Duration::from_millis(250), HOUR).expect("base < max");
        o.unique = Some(Unique::new(UniqueUntil::Start, 2 * HOUR));
        o.priority = 7;
        o.group = Some("tenant-a".into());
    });
    assert_eq!(*Full::options(), expected);
    assert!(
        Arc::ptr_eq(&Full::options(), &Full::options()),
        "all tasks share one allocation"
    );
}

#[test]
fn an_attribute_in_two_parts_is_one() {
    assert_eq!(Pieces::EVENT { options: 1 }.event(), "pieces");
    assert_eq!(codec_of::<Pieces>(), MessagePack::NAME);
    let expected = options(|o| {
        o.backoff = Backoff::Fixed(Duration::from_secs(10));
        o.unique = Some(Unique::new(UniqueUntil::Success, HOUR));
        o.retention = HOUR; // so that the output can be read
    });
    assert_eq!(*Pieces::options(), expected);
}

impl Pieces {
    fn event(&self) -> &'static str {
        <Self as Task>::EVENT
    }
}

#[derive(Serialize, Deserialize, Task)]
#[task(event = "unkept", output = Receipt, retention = "0s", backoff = standard, crate = asynqueue_core)]
#[task(unique(until = "window", ttl = "1d"))]
struct Unkept(u64);

#[test]
fn a_retention_of_zero_keeps_no_result() {
    let expected = options(|o| {
        o.unique = Some(Unique::new(UniqueUntil::Window, 24 * HOUR));
    });
    assert_eq!(*Unkept::options(), expected);
}

#[test]
fn listed_fields_determine_the_unique_key() {
    let task = |user_id, kind: &str, note: &str| Full {
        user_id,
        r#type: kind.into(),
        note: note.into(),
    };
    let key = |task: Full| task.unique_key().expect("encodes");
    let first = key(task(1, "a", "x"));
    assert_eq!(first, key(task(1, "a", "y")), "the note is not compared");
    assert_ne!(first, key(task(2, "a", "x")));
    assert_ne!(first, key(task(1, "b", "x")));
    assert!(first.as_str().starts_with("email:welcome:"));
}

#[test]
fn without_listed_fields_the_entire_payload_determines_the_unique_key() {
    let key = |task: Pieces| task.unique_key().expect("encodes");
    assert_eq!(key(Pieces::Codec), key(Pieces::Codec));
    assert_ne!(
        key(Pieces::EVENT { options: 1 }),
        key(Pieces::EVENT { options: 2 })
    );
}

/// Names in the user's code that the generated code uses too.
mod clashing_names {
    use asynqueue_macros::Task;

    #[allow(dead_code)]
    mod std {}
    #[allow(dead_code)]
    struct Arc;
    #[allow(dead_code)]
    struct Duration;
    #[allow(dead_code)]
    struct LazyLock;
    #[allow(dead_code)]
    struct Name;
    #[allow(dead_code)]
    enum Option {
        Some,
        None,
    }
    #[allow(dead_code)]
    enum Result {
        Ok,
        Err,
    }
    #[allow(dead_code)]
    const OPTIONS: u8 = 0;

    #[derive(serde::Serialize, serde::Deserialize, Task)]
    #[task(event = "clash", queue = "q", group = "g", deadline = "1h", crate = ::asynqueue_core)]
    #[task(unique(ttl = "1h", fields(task)))]
    pub(crate) struct Task {
        pub(crate) task: u8,
    }
}

#[test]
fn generated_code_ignores_the_names_around_it() {
    use clashing_names::Task as Clash;
    assert_eq!(Clash::options().queue, "q");
    assert!(Clash { task: 1 }.unique_key().is_ok());
}

#[derive(Serialize, Deserialize, Task)]
#[task(event = "sets", unique(ttl = "1h", fields(tags, labels)), crate = asynqueue_core)]
struct Sets {
    tags: HashSet<String>,
    labels: Option<HashMap<String, u64>>,
    list: Vec<u64>,
}

#[derive(Serialize, Deserialize, Task)]
#[task(event = "all", unique(ttl = "1h"), crate = asynqueue_core)]
struct AllOfSets(Sets);

#[test]
fn equal_maps_and_sets_have_one_unique_key() {
    let sets = |list: Vec<u64>| Sets {
        tags: (0..6).map(|n| n.to_string()).collect(),
        labels: Some((0..6).map(|n| (n.to_string(), n)).collect()),
        list,
    };
    let keys = |key: &dyn Fn() -> UniqueKey| (0..20).map(|_| key()).collect::<HashSet<_>>().len();
    assert_eq!(keys(&|| sets(vec![1, 2]).unique_key().expect("encodes")), 1);
    let all = |list| AllOfSets(sets(list)).unique_key().expect("encodes");
    assert_eq!(keys(&|| all(vec![1, 2])), 1);
    assert_ne!(
        all(vec![1, 2]),
        all(vec![2, 1]),
        "the order of a list counts"
    );
}
