//! What each change by a person leaves in the audit.

use asynqueue_core::{
    broker::{Fleet, OutboxAction, OutboxInfo, ServerInfo},
    inspector::{Action, Actor, AuditEntry, AuditQuery, AuditTarget, Inspector},
    memory::MemoryBroker,
    producer::Producer,
    scheduler::{Entry, Timetable},
    task::{Name, TaskRef, TaskState},
};
use futures_util::StreamExt;
use serde_json::json;

use crate::harness::{AN_HOUR, job};

const QUEUE: Name = Name::from_static("default");

/// A broker with waiting tasks `a`, `b` and so on, and an inspector of a person.
async fn stage(tasks: usize) -> (MemoryBroker, Inspector, Vec<TaskRef>) {
    let broker = MemoryBroker::new();
    let producer = Producer::new(broker.clone());
    let mut refs = Vec::new();
    for (n, id) in (0..).zip("abcdefgh".chars()).take(tasks) {
        let enqueued = producer.enqueue(job(n)).id(id.to_string()).await;
        refs.push(enqueued.unwrap().task_ref().clone());
    }
    let ada = Actor::new("ada").from_address("203.0.113.7");
    let inspector = Inspector::new(broker.clone()).acting_as(ada);
    (broker, inspector, refs)
}

/// All entries, newest first.
async fn audit(inspector: &Inspector) -> Vec<AuditEntry> {
    let page = inspector.audit(&AuditQuery::default()).await.unwrap();
    assert_eq!(page.next, None);
    page.entries
}

async fn words(inspector: &Inspector) -> Vec<String> {
    let entries = audit(inspector).await;
    entries.iter().map(AuditEntry::describe).collect()
}

#[tokio::test]
async fn pauses_and_deletions_of_queues_are_recorded_with_who_made_them() {
    let (_, inspector, _) = stage(2).await;
    let before = inspector.now();
    let queues = [QUEUE, "other".into()];
    inspector
        .pause_because(&queues[..1], "too hot")
        .await
        .unwrap();
    // The first is paused already, and the second is not resumed.
    inspector.pause(&queues).await.unwrap();
    inspector.resume(&queues[..1]).await.unwrap();
    inspector.resume(&queues[..1]).await.unwrap();
    assert!(!inspector.delete_queue(&QUEUE, false).await.unwrap());
    assert!(inspector.delete_queue(&QUEUE, true).await.unwrap());
    let expected = [
        "deleted queue default: it had 2 tasks",
        "resumed queue default",
        "paused queue other",
        "paused queue default: too hot",
    ];
    assert_eq!(words(&inspector).await, expected);
    let paused = &audit(&inspector).await[3];
    assert_eq!(paused.by, inspector.actor().cloned());
    assert!(before <= paused.at && paused.at <= inspector.now());
    assert_eq!(paused.reason.as_deref(), Some("too hot"));
}

#[tokio::test]
async fn an_action_has_one_entry_for_each_queue_with_its_tasks_and_refusals() {
    let (broker, inspector, mut tasks) = stage(3).await;
    let producer = Producer::new(broker);
    let elsewhere = producer.enqueue(job(9)).queue("other").id("x");
    tasks.push(elsewhere.await.unwrap().task_ref().clone());
    tasks.push("default/missing".parse().unwrap());
    let archive = Action::Archive("no longer wanted".into());
    inspector.apply(&archive, &tasks).await.unwrap();
    // It changes nothing.
    inspector.apply(&archive, &tasks).await.unwrap();
    inspector.apply(&Action::Retry, &tasks[..1]).await.unwrap();
    let expected = [
        "retried task a in queue default",
        "archived task x in queue other: no longer wanted",
        "archived 3 tasks in queue default, refused for 1: no longer wanted",
    ];
    assert_eq!(words(&inspector).await, expected);
    let ids: Vec<_> = audit(&inspector).await[2]
        .tasks
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(ids, ["a", "b", "c"]);
}

#[tokio::test]
async fn each_action_on_a_task_is_recorded() {
    let (_, inspector, tasks) = stage(6).await;
    let actions = [
        Action::RunNow,
        Action::Cancel("stop it".into()),
        Action::Delete,
        Action::EditPayload(json!({ "n": 7 })),
        Action::MoveTo("other".into()),
    ];
    for (action, task) in actions.iter().zip(&tasks) {
        let task = std::slice::from_ref(task);
        inspector.apply(action, task).await.unwrap();
        assert_eq!(
            audit(&inspector).await[0].kind(),
            Some(action.kind()),
            "{action:?}"
        );
    }
    let expected = [
        "moved task e in queue default to queue other",
        "edited task d in queue default",
        "deleted task c in queue default",
        "cancelled task b in queue default: stop it",
        "ran task a in queue default",
    ];
    assert_eq!(words(&inspector).await, expected);
}

#[tokio::test]
async fn a_move_and_a_copy_are_in_both_queues() {
    let (_, inspector, tasks) = stage(2).await;
    let to = Action::MoveTo("other".into());
    inspector.apply(&to, &tasks[..1]).await.unwrap();
    for queue in [QUEUE, "other".into()] {
        let moved = TaskRef::new(queue.clone(), tasks[0].id.clone());
        let query = AuditQuery::of_task(moved);
        let found = inspector.audit(&query).await.unwrap().entries;
        assert_eq!(found.len(), 1, "{queue}");
        let found = inspector.audit(&AuditQuery::of_queue(queue)).await;
        assert_eq!(found.unwrap().entries.len(), 1);
    }
    assert_eq!(audit(&inspector).await.len(), 1);
    inspector.delete_queue(&"other".into(), true).await.unwrap();
    let payload = json!({ "m": 1 });
    let again = inspector.enqueue_again(&tasks[1], Some(&payload)).await;
    let copy = again.unwrap();
    for task in [&tasks[1], &copy] {
        let query = AuditQuery::of_task(task.clone());
        let found = inspector.audit(&query).await.unwrap().entries;
        let expected = format!("enqueued again task b in queue default as task {copy}");
        assert_eq!(found[0].describe(), expected);
        let edit = found[0].edit.as_ref().unwrap();
        assert_eq!(edit.shape, ["field `n` was removed", "field `m` was added"]);
    }
}

#[tokio::test]
async fn an_edit_keeps_the_old_payload_without_redacted_values() {
    let (_, inspector, tasks) = stage(2).await;
    let with_secret = json!({ "n": 1, "pin": "s3cret" });
    let edit = |value| Action::EditPayload(value);
    let inspector = inspector.redact(["pin"]);
    inspector.apply(&edit(with_secret), &tasks).await.unwrap();
    let other = edit(json!({ "n": "x", "pin": "[redacted]" }));
    inspector.apply(&other, &tasks[..1]).await.unwrap();
    let entries = audit(&inspector).await;
    // One for each task.
    assert_eq!(entries.len(), 3);
    let last = entries[0].edit.as_ref().unwrap();
    assert_eq!(last.payload(), Some(json!({ "n": 1, "pin": "[redacted]" })));
    assert_eq!(last.shape, ["field `n` changed from a number to text"]);
    let first = entries[2].edit.as_ref().unwrap();
    assert_eq!(first.payload(), Some(json!({ "n": 0 })));
    assert_eq!(first.shape, ["field `pin` was added"]);
    let all = serde_json::to_string(&entries).unwrap();
    assert!(!all.contains("s3cret"), "{all}");

    // Written back, it restores the payload with the hidden value.
    let old = edit(last.payload().unwrap());
    inspector.apply(&old, &tasks[..1]).await.unwrap();
    let task = inspector.task(&tasks[0]).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&task.envelope.payload).into_owned();
    assert!(text.contains("s3cret"), "{text}");
}

/// The program that makes a change may hide nothing.
#[tokio::test]
async fn a_viewer_sees_no_old_payload_that_is_hidden_from_it() {
    let (broker, open, tasks) = stage(1).await;
    let long = "s3cret ".repeat(1_000);
    for payload in [
        json!({ "n": 1, "pin": "s3cret" }),
        json!({ "n": 1, "pin": long }),
        json!({ "n": 1 }),
    ] {
        let edit = Action::EditPayload(payload);
        open.apply(&edit, &tasks).await.unwrap();
    }
    let viewer = Inspector::new(broker).redact(["pin"]);
    let entries = audit(&viewer).await;
    let before: Vec<_> = entries
        .iter()
        .map(|entry| entry.edit.clone().unwrap().before)
        .collect();
    let expected = ["[redacted]", r#"{"n":1,"pin":"[redacted]"}"#, r#"{"n":0}"#];
    assert_eq!(before, expected);
    let all = serde_json::to_string(&audit(&open).await).unwrap();
    assert!(all.contains("s3cret"));
}

#[tokio::test]
async fn a_bulk_action_is_recorded_before_it_starts_and_counted_while_it_runs() {
    let (broker, inspector, _) = stage(0).await;
    let producer = Producer::new(broker.clone());
    let many = producer.enqueue_many((0..450).map(job)).await;
    assert!(many.iter().all(Result::is_ok));
    let filter = || "event=job".parse().unwrap();
    let archive = Action::Archive("all of them".into());
    let mut bulk = inspector.apply_to_all(archive, QUEUE, TaskState::Pending, filter());
    assert!(audit(&inspector).await.is_empty());
    bulk.next().await.unwrap().unwrap();
    drop(bulk);
    let expected = "archived 200 pending tasks in queue default that match `event=job`: all of them (not complete)";
    assert_eq!(words(&inspector).await, [expected]);

    let delete = inspector.apply_to_all(Action::Delete, QUEUE, TaskState::Pending, filter());
    delete.count().await;
    let expected = "deleted 250 pending tasks in queue default that match `event=job`";
    assert_eq!(words(&inspector).await[0], expected);
    assert_eq!(audit(&inspector).await.len(), 2);
    // Nothing is changed.
    let none = inspector.apply_to_all(Action::Delete, QUEUE, TaskState::Retry, filter());
    none.count().await;
    assert_eq!(audit(&inspector).await.len(), 2);
}

#[tokio::test]
async fn a_bulk_edit_keeps_the_old_payloads() {
    let (_, inspector, tasks) = stage(2).await;
    let edit = Action::EditPayload(json!({ "n": 7 }));
    let all = inspector.apply_to_all(edit, QUEUE, TaskState::Pending, "".parse().unwrap());
    all.count().await;
    let query = AuditQuery::of_task(tasks[1].clone());
    let found = inspector.audit(&query).await.unwrap().entries;
    let before = found[0].edit.as_ref().and_then(|edit| edit.payload());
    assert_eq!(before, Some(json!({ "n": 1 })));
    let bulk = audit(&inspector).await;
    assert_eq!((bulk.len(), bulk[2].done), (3, 2));
}

#[tokio::test]
async fn requests_to_servers_and_outboxes_are_recorded() {
    let (broker, inspector, _) = stage(0).await;
    let server = ServerInfo::new("host:1", inspector.now());
    broker.beat(server, AN_HOUR).await.unwrap();
    let outbox = OutboxInfo::new("box", "orders", inspector.now());
    broker.report_outbox(outbox, AN_HOUR).await.unwrap();
    let (server, outbox) = (Name::from("host:1"), Name::from("box"));
    for name in [&server, &"unknown".into()] {
        inspector.set_server_quiet(name, true).await.unwrap();
    }
    inspector.set_server_quiet(&server, false).await.unwrap();
    for actions in [
        vec![OutboxAction::Retry(3), OutboxAction::Delete(4)],
        vec![],
    ] {
        inspector.change_outbox(&outbox, actions).await.unwrap();
    }
    let expected = [
        "requested a change of outbox box: retry entry 3, delete entry 4",
        "resumed server host:1",
        "stopped leasing of server host:1",
    ];
    assert_eq!(words(&inspector).await, expected);
}

#[tokio::test]
async fn changes_of_schedule_entries_at_run_time_are_recorded() {
    let (_, inspector, _) = stage(0).await;
    let timetable = inspector.timetable();
    let entry = Entry::new("nightly", "@daily", job(1)).unwrap();
    timetable.put(entry).await.unwrap();
    timetable
        .pause_because("nightly", "the disk is full")
        .await
        .unwrap();
    timetable.pause("nightly").await.unwrap();
    let task = timetable.trigger("nightly").await.unwrap();
    timetable.resume("nightly").await.unwrap();
    timetable.resume("nightly").await.unwrap();
    assert!(timetable.remove("nightly").await.unwrap());
    assert!(!timetable.remove("nightly").await.unwrap());
    let triggered = format!("triggered schedule entry nightly as task {task}");
    let expected = [
        "deleted schedule entry nightly",
        "resumed schedule entry nightly",
        &triggered,
        "paused schedule entry nightly: the disk is full",
        "put schedule entry nightly: rule @daily, event job",
    ];
    assert_eq!(words(&inspector).await, expected);
    let all = audit(&inspector).await;
    assert!(
        all.iter()
            .all(|entry| entry.by == inspector.actor().cloned())
    );
    let of_task = inspector.audit(&AuditQuery::of_task(task)).await.unwrap();
    assert_eq!(of_task.entries, all[2..3]);
    // A queue may have the name of an entry.
    let query = AuditQuery::of_queue("nightly");
    assert_eq!(inspector.audit(&query).await.unwrap().entries, []);
}

#[tokio::test]
async fn a_change_by_nobody_known_is_recorded_too() {
    let (broker, inspector, _) = stage(0).await;
    Inspector::new(broker.clone())
        .pause(&[QUEUE])
        .await
        .unwrap();
    let entry = Entry::new("nightly", "@daily", job(1)).unwrap();
    Timetable::new(broker).put(entry).await.unwrap();
    let entries = audit(&inspector).await;
    assert_eq!(entries.len(), 2);
    assert!(entries.iter().all(|entry| entry.by.is_none()));
    assert_eq!(entries[1].on, AuditTarget::Queue(QUEUE));
}
