//! Each cause, by what servers report.

use std::time::Duration;

use asynqueue_core::{
    broker::{LimitInfo, LimitKind, QueueUse, UnhandledTasks, When},
    inspector::{Actor, Cause, TakerState},
    task::TaskState,
};

use crate::stage::{EVENT, QUEUE, Stage, envelope, kinds, secs, task_ref};

#[tokio::test]
async fn a_queue_without_a_server_says_so_and_names_the_lost_one() {
    let stage = Stage::new();
    stage.enqueue(&["a"]).await;
    let expected = "no server takes from this queue";
    assert_eq!(stage.causes().await, [expected]);
    assert_eq!(stage.causes_of("a").await, [expected]);
    let mut other = stage.server("web-2");
    other.queues = vec![("mail".into(), 1)];
    stage.report(other).await;
    assert_eq!(stage.causes().await, [expected]);
    stage.report(stage.server("web-1")).await;
    assert_eq!(kinds(&stage.why().await.causes), ["pending"]);
    stage.clock.advance(secs(16));
    let expected = "no server takes from this queue: web-1 is lost";
    assert_eq!(stage.causes().await, [expected]);
    assert_eq!(stage.causes_of("a").await, [expected]);
}

#[tokio::test]
async fn a_paused_queue_shows_by_whom_since_when_and_why() {
    let stage = Stage::new();
    stage.enqueue(&["a"]).await;
    stage.report(stage.server("web-1")).await;
    let ada = Actor::new("ada").from_address("203.0.113.7");
    let inspector = stage.inspector.clone().acting_as(ada);
    let reason = "the encoder leaks";
    let paused = inspector.pause_because(&[QUEUE.into()], reason).await;
    paused.unwrap();
    stage.clock.advance(secs(750));
    stage.report(stage.server("web-1")).await;
    let expected = "the queue was paused 12m 30s ago by ada from 203.0.113.7: the encoder leaks";
    assert_eq!(stage.causes().await, [expected]);
    assert_eq!(stage.causes_of("a").await, [expected]);
    inspector.resume(&[QUEUE.into()]).await.unwrap();
    // As a version without records pauses.
    stage.set_paused().await;
    assert_eq!(stage.causes().await, ["the queue is paused"]);
}

#[tokio::test]
async fn the_gravest_cause_is_first() {
    let stage = Stage::new();
    stage.enqueue(&["a"]).await;
    let mut server = stage.server("web-1");
    server.busy = 4;
    stage.report(server).await;
    let mut quiet = stage.server("web-2");
    quiet.quiet = true;
    stage.report(quiet).await;
    let causes = stage.why().await.causes;
    assert_eq!(kinds(&causes), ["busy", "away", "pending"]);
    stage.set_paused().await;
    let causes = stage.why().await.causes;
    assert_eq!(kinds(&causes), ["paused", "busy", "away"]);
    assert!(!causes[0].passes() && causes[1].passes());
}

#[tokio::test]
async fn an_event_without_a_handler_is_named() {
    let stage = Stage::new();
    stage.enqueue(&["a"]).await;
    let mut server = stage.server("web-1");
    server.events = vec!["video:cut".into()];
    server.unhandled = vec![
        UnhandledTasks::new(QUEUE.into(), EVENT.into(), 12),
        UnhandledTasks::new("mail".into(), "mail:send".into(), 3),
    ];
    stage.report(server.clone()).await;
    let text = "no server that takes from this queue has a handler for event `video:encode`";
    let causes = stage.causes().await;
    assert_eq!(causes[0], format!("{text} (12 tasks)"));
    assert_eq!(stage.causes_of("a").await, [text]);
    // Another server handles it.
    stage.report(stage.server("web-2")).await;
    assert_eq!(kinds(&stage.why().await.causes), ["pending"]);
    assert_eq!(kinds(&stage.why_task("a").await.causes), ["turn"]);
}

#[tokio::test]
async fn busy_slots_are_counted_over_all_servers() {
    let stage = Stage::new();
    stage.enqueue(&["a"]).await;
    for name in ["web-1", "web-2"] {
        let mut server = stage.server(name);
        server.busy = 4;
        stage.report(server).await;
    }
    let expected = "all 8 slots of 2 servers are busy: web-1, web-2";
    assert_eq!(stage.causes().await[0], expected);
    assert_eq!(stage.causes_of("a").await[0], expected);
    // One has a free slot.
    stage.report(stage.server("web-2")).await;
    assert_eq!(kinds(&stage.why().await.causes), ["pending"]);
}

#[tokio::test]
async fn the_limit_of_a_queue_shows_who_holds_its_places() {
    let stage = Stage::new();
    stage.enqueue(&["a"]).await;
    let mut server = stage.server("web-1");
    server.busy = 2;
    server.queue_use = vec![QueueUse::new(QUEUE, 2).with_max(2)];
    server.running = vec![
        stage.running("short", secs(5)),
        stage.running("long", secs(60)),
    ];
    stage.report(server).await;
    let wait = stage.why().await;
    assert_eq!(
        stage.causes().await[0],
        "the limit of this queue is reached: 2 of 2 running on web-1"
    );
    let Cause::QueueLimit { holders, .. } = &wait.causes[0] else {
        panic!("{wait:?}")
    };
    assert_eq!(*holders, [task_ref("long"), task_ref("short")]);
    let [taker] = &wait.takers[..] else {
        panic!("{wait:?}")
    };
    assert_eq!((taker.running, taker.max, taker.busy), (2, Some(2), 2));
    assert_eq!(kinds(&stage.why_task("a").await.causes)[0], "queue_limit");
}

fn rate(stage: &Stage, waiting: u64) -> LimitInfo {
    let mut limit = LimitInfo::new(LimitKind::Rate, vec![EVENT.into()], 5);
    (limit.used, limit.period) = (5, Some(secs(60)));
    limit.next = Some(stage.now() + secs(12));
    limit.waiting = waiting;
    limit.queues = vec![QUEUE.into()];
    limit
}

#[tokio::test]
async fn a_rate_limit_shows_when_the_next_attempt_may_start() {
    let stage = Stage::new();
    let mut task = envelope("a");
    task.set_place(Some(7));
    stage.add(task, When::After(secs(48))).await;
    let mut server = stage.server("web-1");
    server.limits = vec![rate(&stage, 41)];
    stage.report(server).await;
    let expected = "a limit of event `video:encode` on web-1 holds tasks back: 5 attempts in 1m; \
                    the next attempt may start in 12s; about 41 tasks wait for it";
    assert_eq!(stage.causes().await, [expected]);
    let of_task = format!("{expected}; this task tries again in 48s");
    assert_eq!(stage.causes_of("a").await, [of_task]);
}

#[tokio::test]
async fn a_limit_that_no_task_of_the_queue_waits_for_is_not_a_cause() {
    let stage = Stage::new();
    let mut server = stage.server("web-1");
    let mut limit = rate(&stage, 41);
    limit.queues = vec!["mail".into()];
    server.limits = vec![limit];
    stage.report(server).await;
    assert_eq!(stage.causes().await, [""; 0]);
}

#[tokio::test]
async fn a_concurrency_limit_of_a_handler_shows_who_holds_its_places() {
    let stage = Stage::new();
    let mut server = stage.server("web-1");
    let mut limit = LimitInfo::new(LimitKind::Concurrency, vec![EVENT.into()], 1);
    (limit.used, limit.waiting) = (1, 1);
    limit.queues = vec![QUEUE.into()];
    server.limits = vec![limit];
    server.running = vec![stage.running("r", secs(60))];
    stage.report(server).await;
    let wait = stage.why().await;
    let [Cause::Limit { holders, .. }] = &wait.causes[..] else {
        panic!("{wait:?}")
    };
    assert_eq!(*holders, [task_ref("r")]);
    let expected = "a limit of event `video:encode` on web-1 holds tasks back: 1 of 1 concurrent \
                    attempts; about 1 task waits for it";
    assert_eq!(stage.causes().await, [expected]);
}

#[tokio::test]
async fn servers_that_are_away_are_named_with_their_state() {
    let stage = Stage::new();
    stage.enqueue(&["a"]).await;
    stage.report(stage.server("web-1")).await;
    stage.clock.advance(secs(20));
    let mut quiet = stage.server("web-2");
    quiet.quiet = true;
    let mut stopping = stage.server("web-3");
    stopping.stopping = true;
    stage.report(quiet).await;
    stage.report(stopping).await;
    stage.report(stage.server("web-4")).await;
    let causes = stage.causes().await;
    assert_eq!(
        causes[0],
        "servers of this queue are away: web-1 is lost, web-2 is quiet, web-3 is stopping"
    );
    let states: Vec<_> = (stage.why().await.takers.iter())
        .map(|taker| taker.state)
        .collect();
    use TakerState::{Lost, Quiet, Stopping, Working};
    assert_eq!(states, [Lost, Quiet, Stopping, Working]);
}

/// It reports running tasks, and no use of its queues.
#[tokio::test]
async fn a_server_of_an_earlier_version_shows_its_running_tasks() {
    let stage = Stage::new();
    let mut server = stage.server("web-1");
    server.busy = 1;
    server.running = vec![stage.running("r", secs(1))];
    stage.report(server).await;
    let wait = stage.why().await;
    assert_eq!((wait.takers[0].running, wait.takers[0].max), (1, None));
    assert_eq!(wait.causes, []);
}

#[tokio::test]
async fn a_task_that_is_not_due_shows_when_it_is() {
    let stage = Stage::new();
    stage.report(stage.server("web-1")).await;
    let later = When::After(Duration::from_secs(2 * 3600 + 90));
    stage.add(envelope("a"), later).await;
    let expected = "it is not due yet: due in 2h 1m";
    assert_eq!(stage.causes_of("a").await, [expected]);
    // It waits for a limit that no server reports.
    let mut placed = envelope("b");
    placed.set_place(Some(1));
    stage.add(placed, When::After(secs(9))).await;
    let expected = "it is over a limit of its handler, and is due again in 9s";
    assert_eq!(stage.causes_of("b").await, [expected]);
}

#[tokio::test]
async fn an_active_task_does_not_wait() {
    let stage = Stage::new();
    stage.enqueue(&["a"]).await;
    stage.lease("web-1", 1).await;
    let wait = stage.why_task("a").await;
    assert_eq!((wait.state, wait.causes), (TaskState::Active, vec![]));
    let missing = stage.inspector.why_task_waits(&task_ref("none")).await;
    assert_eq!(missing.unwrap(), None);
}
