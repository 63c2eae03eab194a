//! Documents of a later version are kept and do not affect others; expired documents are deleted.

use std::time::Duration;

use asynqueue_core::{
    broker::{
        Broker, Conflict, DocumentSwap, Expect, Fire, FireOutcome, Fleet, NewTask, Put,
        REMOVALS_KEPT, ScheduleEntry, ScheduleEvent, Schedules, ServerInfo, Space, Store,
        Subscriptions, Tick, TickGuard, When,
    },
    codec::{CodecName, MessagePack},
    memory::MemoryBroker,
    task::{Envelope, Name, TaskId, Timestamp},
    testing::TestClock,
};
use bytes::Bytes;
use rmpv::Value;

const TICK: Timestamp = Timestamp::from_millis(1_000);
const NEXT: Timestamp = Timestamp::from_millis(2_000);

async fn put(store: &MemoryBroker, space: Space, name: &str, bytes: impl Into<Bytes>) {
    let set = Put::Set(bytes.into(), Some(TICK));
    let change = DocumentSwap::new(space, name, Expect::Any, set);
    let swapped = store.swap(vec![vec![change]]).await.expect("open");
    assert!(swapped[0].is_done);
}

async fn read(store: &MemoryBroker, space: Space, name: &str) -> Option<Bytes> {
    let found = store.document(space, &[name.into()]).await.expect("open");
    found[0].as_ref().map(|document| document.bytes.clone())
}

/// Adds a field to a document, like a later version.
async fn add_field(store: &MemoryBroker, space: Space, name: &str) {
    let bytes = read(store, space, name).await.expect("a document");
    let mut map = value(&bytes);
    let Value::Map(fields) = &mut map else {
        panic!("{map} is not a map")
    };
    fields.push((
        "later".into(),
        Value::Map(vec![("a".into(), Value::Ext(7, vec![1, 2]))]),
    ));
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &map).expect("written");
    put(store, space, name, bytes).await;
}

fn value(mut bytes: &[u8]) -> Value {
    rmpv::decode::read_value(&mut bytes).expect("MessagePack")
}

async fn has_field(store: &MemoryBroker, space: Space, name: &str) -> bool {
    let bytes = read(store, space, name).await.expect("a document");
    let map = value(&bytes);
    let fields = map.as_map().expect("a map");
    fields.iter().any(|(key, _)| key.as_str() == Some("later"))
}

fn entry(name: &str) -> ScheduleEntry {
    let id = TaskId::new("template").expect("an id");
    let codec = CodecName::of::<MessagePack>();
    let template = Envelope::new(id, "event", codec, Bytes::new());
    let mut entry = ScheduleEntry::new(name, "@every 1s", template);
    entry.next = Some(TICK);
    entry.source = "code".into();
    entry
}

fn fire(name: &str) -> Fire {
    let mut task = entry(name).template;
    task.id = TaskId::new(name).expect("an id");
    Fire {
        name: name.into(),
        tick: TICK,
        what: Tick::Enqueue(task, TICK),
        next: Some(NEXT),
    }
}

fn names(entries: &[ScheduleEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.name.as_str()).collect()
}

#[tokio::test]
async fn an_undecodable_entry_is_kept_and_does_not_hide_others() {
    let store = MemoryBroker::new();
    for name in ["a", "b", "c"] {
        put(&store, Space::Schedules, name, "of a later version").await;
    }
    store
        .put_schedules(vec![entry("z"), entry("y")])
        .await
        .expect("put");
    assert_eq!(names(&store.schedules().await.expect("listed")), ["y", "z"]);
    for limit in 1..4 {
        let due = store.due_schedules(limit).await.expect("due").entries;
        assert_eq!(due.len(), limit.min(2), "of {limit}");
    }
    let error = store.schedule(&"a".into()).await.expect_err("unreadable");
    assert!(
        error
            .to_string()
            .contains("schedule entry `a` is undecodable"),
        "{error}"
    );
    let error = store
        .put_schedules(vec![entry("a")])
        .await
        .expect_err("unreadable");
    assert!(error.to_string().contains("schedule entry `a`"), "{error}");
    let fired = store.fire(vec![fire("a"), fire("z")]).await.expect("fired");
    assert_eq!(fired, [Ok(false), Ok(true)]);
    assert_eq!(
        read(&store, Space::Schedules, "a").await.as_deref(),
        Some(&b"of a later version"[..])
    );
    let removed = store.remove_schedules(&["a".into(), "y".into()]).await;
    assert_eq!(removed.expect("removed"), [true, true]);
}

#[tokio::test]
async fn a_field_of_a_later_version_is_kept_when_an_entry_changes_or_fires() {
    let store = MemoryBroker::new();
    store.put_schedules(vec![entry("e")]).await.expect("put");
    add_field(&store, Space::Schedules, "e").await;
    let mut changed = entry("e");
    changed.rule = "@daily".into();
    store.put_schedules(vec![changed]).await.expect("put");
    assert!(has_field(&store, Space::Schedules, "e").await);
    let fired = store.fire(vec![fire("e")]).await.expect("fired");
    assert_eq!(fired, [Ok(true)]);
    assert!(has_field(&store, Space::Schedules, "e").await);
    let entry = store
        .schedule(&"e".into())
        .await
        .expect("read")
        .expect("there");
    assert_eq!((entry.rule.as_str(), entry.next), ("@daily", Some(NEXT)));
}

#[tokio::test]
async fn an_undecodable_history_does_not_stop_an_entry_from_firing() {
    let store = MemoryBroker::new();
    store
        .put_schedules(vec![entry("e"), entry("f")])
        .await
        .expect("put");
    put(&store, Space::ScheduleEvents, "e", "of a later version").await;
    let fired = store.fire(vec![fire("e"), fire("f")]).await.expect("fired");
    assert_eq!(fired, [Ok(true), Ok(true)]);
    let moved_on = store.schedules().await.expect("listed");
    assert!(moved_on.iter().all(|entry| entry.next == Some(NEXT)));
    let kept = read(&store, Space::ScheduleEvents, "e").await;
    assert_eq!(kept.as_deref(), Some(&b"of a later version"[..]));
}

#[tokio::test]
async fn an_event_of_a_later_version_is_kept_and_skipped() {
    #[derive(serde::Serialize)]
    struct Later {
        events: Vec<Bytes>,
    }
    let store = MemoryBroker::new();
    store.put_schedules(vec![entry("e")]).await.expect("put");
    let events = vec![Bytes::from_static(b"\xa5later")];
    let history = rmp_serde::to_vec_named(&Later { events }).expect("written");
    put(&store, Space::ScheduleEvents, "e", history).await;
    store
        .fire(vec![fire("e")])
        .await
        .expect("fired")
        .remove(0)
        .expect("accepted");
    let events: Vec<ScheduleEvent> = store.schedule_events(&"e".into(), 10).await.expect("read");
    assert_eq!(events.len(), 1);
    assert!(matches!(events[0].outcome, FireOutcome::Enqueued(_)));
    let kept = read(&store, Space::ScheduleEvents, "e")
        .await
        .expect("kept");
    assert!(kept.windows(5).any(|part| part == b"later"));
}

fn pair(event: &str, name: &str) -> (Name, Name) {
    (event.into(), name.into())
}

#[tokio::test]
async fn undecodable_subscribers_do_not_affect_other_events() {
    let store = MemoryBroker::new();
    put(&store, Space::Subscriptions, "a", "of a later version").await;
    let both = vec![pair("a", "x"), pair("b", "x")];
    let error = store.subscribe(both.clone()).await.expect_err("unreadable");
    assert!(
        error
            .to_string()
            .contains("subscriber list of event `a` is undecodable"),
        "{error}"
    );
    let all = store.subscriptions().await.expect("listed");
    assert_eq!(all.len(), 1);
    assert_eq!((&*all[0].event, &*all[0].name), ("b", "x"));
    store.unsubscribe(&both).await.expect_err("unreadable");
    assert_eq!(store.subscriptions().await.expect("listed"), []);
    store
        .restore_subscriptions(&both)
        .await
        .expect_err("unreadable");
    store
        .subscribers(&"a".into())
        .await
        .expect_err("unreadable");
    assert_eq!(store.subscribers(&"b".into()).await.expect("read"), []);
    let kept = read(&store, Space::Subscriptions, "a").await;
    assert_eq!(kept.as_deref(), Some(&b"of a later version"[..]));
}

#[tokio::test]
async fn a_field_of_a_later_version_is_kept_with_the_subscribers() {
    let store = MemoryBroker::new();
    store.subscribe(vec![pair("a", "x")]).await.expect("added");
    add_field(&store, Space::Subscriptions, "a").await;
    store.subscribe(vec![pair("a", "y")]).await.expect("added");
    store.unsubscribe(&[pair("a", "x")]).await.expect("removed");
    assert!(has_field(&store, Space::Subscriptions, "a").await);
    assert_eq!(store.subscribers(&"a".into()).await.expect("read").len(), 1);
}

#[tokio::test]
async fn an_undecodable_server_report_does_not_hide_others() {
    let store = MemoryBroker::new();
    let in_a_while = Some(Broker::now(&store) + Duration::from_secs(60));
    for (space, name) in [(Space::Servers, "a"), (Space::Requests, "b")] {
        let set = Put::Set("of a later version".into(), in_a_while);
        let change = DocumentSwap::new(space, name, Expect::Any, set);
        store.swap(vec![vec![change]]).await.expect("open");
    }
    assert_eq!(store.servers().await.expect("listed"), []);
    store.leave(&"a".into()).await.expect("left");
    assert_eq!(read(&store, Space::Servers, "a").await, None);
}

#[tokio::test]
async fn expired_removals_are_deleted_when_another_is_added() {
    let clock = TestClock::default();
    let store = MemoryBroker::with_clock(clock.clone());
    let many: Vec<_> = (0..150).map(|n| pair("a", &n.to_string())).collect();
    let kept = async || store.documents(Space::Removals).await.expect("open").len();
    store.unsubscribe(&many).await.expect("removed");
    assert_eq!(kept().await, 150);
    clock.advance(REMOVALS_KEPT);
    store
        .remove_schedules(&["e".into()])
        .await
        .expect("removed");
    assert_eq!(kept().await, 51, "some at a time");
    store.unsubscribe(&[pair("b", "x")]).await.expect("removed");
    assert_eq!(kept().await, 2);
}

/// Whether a queue remembers the tick of this guard.
async fn is_remembered(store: &MemoryBroker, queue: &str, guard: &Name) -> bool {
    let (guard, tick) = (guard.clone(), TICK);
    let mut task = entry("again").template;
    task.queue = queue.into();
    let mut task = NewTask::new(task, When::Now);
    task.tick = Some(TickGuard { guard, tick });
    let results = Store::enqueue(store, vec![task]).await.expect("open");
    matches!(results[0], Err(Conflict::Fired { .. }))
}

/// A scheduler that read the entry before may still fire it.
#[tokio::test]
async fn the_last_tick_of_an_entry_outlives_it_as_long_as_the_record_of_its_removal() {
    let clock = TestClock::default();
    let store = MemoryBroker::with_clock(clock.clone());
    let entries = vec![entry("gone"), entry("moved")];
    store.put_schedules(entries).await.expect("put");
    let ticks = vec![fire("gone"), fire("moved")];
    let fired = store.fire(ticks).await.expect("fired");
    assert_eq!(fired, [Ok(true), Ok(true)]);
    let removed = store.remove_schedules(&["gone".into()]).await;
    assert_eq!(removed.expect("removed"), [true]);
    let mut moved = entry("moved");
    moved.template.queue = "elsewhere".into();
    store.put_schedules(vec![moved]).await.expect("put");

    let records = store.documents(Space::Removals).await.expect("open");
    let guards = records.iter().filter_map(|(name, _)| {
        let guard = name.strip_prefix("ticks\n");
        guard.map(Name::from)
    });
    let guards: Vec<_> = guards.collect();
    assert_eq!(guards.len(), 2, "{records:?}");
    // Each removal deletes what has expired.
    let forget = async || {
        store
            .remove_schedules(&["x".into()])
            .await
            .expect("removed")
    };
    clock.advance(REMOVALS_KEPT - Duration::from_secs(1));
    forget().await;
    for guard in &guards {
        assert!(is_remembered(&store, "default", guard).await, "{guard}");
    }
    clock.advance(Duration::from_secs(1));
    forget().await;
    for guard in &guards {
        assert!(!is_remembered(&store, "default", guard).await, "{guard}");
    }
}

fn server(name: &str) -> ServerInfo {
    let fields = serde_json::json!({
        "name": name, "host": "h", "pid": 1, "started": 0, "seen": 0, "queues": [], "strict": false, "events": [],
        "concurrency": 1, "busy": 0, "running": [], "abandoned": 0, "finished": 0, "stopping": false,
    });
    serde_json::from_value(fields).expect("a server")
}

#[tokio::test]
async fn lost_servers_are_deleted_even_if_nothing_reads_them() {
    let clock = TestClock::default();
    let store = MemoryBroker::with_clock(clock.clone());
    let ttl = Duration::from_secs(3_600);
    store.beat(server("gone"), ttl).await.expect("kept");
    store
        .request_quiet(&"gone".into(), true)
        .await
        .expect("requested");
    clock.advance(ttl);
    for _ in 0..12 {
        store.beat(server("at-work"), ttl).await.expect("kept");
        clock.advance(Duration::from_secs(5));
    }
    let names = async |space| {
        let all = store.documents(space).await.expect("open");
        all.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(names(Space::Servers).await, ["at-work"]);
    assert_eq!(names(Space::Requests).await, [""; 0]);
}
