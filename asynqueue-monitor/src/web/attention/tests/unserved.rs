//! Queues whose tasks no server takes, although none of them is pending.

use super::*;

/// A queue that a server took from before it was killed.
fn abandoned(states: &[(TaskState, u64)]) -> QueueInfo {
    let mut info = queue("mail", 0, 0);
    info.stats.counts.extend(states.iter().copied());
    info
}

/// Redis makes a due task pending when a server leases from its queue. So without a server, an overdue retry is never
/// pending, and the tasks of a killed server stay active.
#[test]
fn tasks_that_no_server_makes_pending_are_reported() {
    let states = [
        (TaskState::Active, 4),
        (TaskState::Retry, 60),
        (TaskState::Scheduled, 40),
        (TaskState::Archived, 0),
    ];
    let mut system = System {
        queues: vec![abandoned(&states)],
        servers: vec![server("gone", 2_000, &["mail"])],
        ..System::default()
    };
    let numbers = "4 tasks active on lost servers, 100 tasks scheduled or waiting for a retry";
    assert_eq!(
        system.texts(),
        [format!("No server is running: {numbers}.")]
    );

    system.servers.push(server("one", 1, &["other"]));
    let concern = system.concerns().remove(0);
    assert_eq!(
        concern.text,
        format!(
            "no server takes from this queue: {}.",
            numbers.replace(", ", "; ")
        )
    );
    assert_eq!((concern.kind, concern.count), ("unserved_queue", 104));
    assert_eq!(concern.tasks().expect("tasks").1, TaskState::Active);

    system.queues = vec![abandoned(&states[1..])];
    assert_eq!(
        system.concerns()[0].tasks().expect("tasks").1,
        TaskState::Retry
    );
    // A quiet server takes from it again soon.
    let mut quiet = server("two", 1, &["mail"]);
    quiet.quiet = true;
    system.servers.push(quiet);
    assert_eq!(system.kinds(), []);
    system.servers[2].quiet = false;
    assert_eq!(system.kinds(), []);
}

#[test]
fn a_queue_that_nobody_serves_is_not_reported_without_tasks_that_would_run() {
    let mut system = System {
        queues: vec![abandoned(&[
            (TaskState::Archived, 0),
            (TaskState::Completed, 9),
        ])],
        ..System::default()
    };
    assert_eq!(system.kinds(), []);
    system.servers.push(server("one", 1, &["other"]));
    assert_eq!(system.kinds(), []);
}
