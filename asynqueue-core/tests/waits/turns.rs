//! The turn of a task: its position, and when it starts.

use asynqueue_core::{
    broker::{Broker, Control, HourStats, Outcome, Point, Series},
    inspector::{Cause, Turn},
    task::Timestamp,
};

use crate::stage::{QUEUE, Stage, kinds, secs};

async fn turn(stage: &Stage, id: &str) -> Turn {
    let causes = stage.why_task(id).await.causes;
    match &causes[..] {
        [Cause::Turn(turn)] => turn.clone(),
        _ => panic!("{causes:?}"),
    }
}

/// Runs tasks to their end.
async fn run(stage: &Stage, max: usize) {
    let leased = stage.lease("web-1", max).await;
    assert_eq!(leased.len(), max);
    let done = Outcome::Complete { result: None };
    let settled: Vec<_> = (leased.into_iter())
        .map(|leased| leased.settle(done.clone()))
        .collect();
    Broker::settle(&stage.broker, &settled).await.unwrap();
}

/// Twenty minutes after the start of an hour.
async fn stage() -> Stage {
    let stage = Stage::new();
    let hour = HourStats::MILLIS;
    let start = (stage.now().as_millis() / hour + 1) * hour;
    stage.clock.set(Timestamp::from_millis(start));
    stage.clock.advance(secs(1200));
    stage
}

#[tokio::test]
async fn a_pending_task_shows_its_position_and_when_it_starts() {
    let stage = stage().await;
    let names: Vec<_> = (0..14).map(|n| format!("t{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    stage.enqueue(&names).await;
    stage.report(stage.server("web-1")).await;
    assert_eq!(stage.causes_of("t0").await, ["it is next in its queue"]);
    assert_eq!(turn(&stage, "t3").await.start, None);
    run(&stage, 4).await;
    let shown = turn(&stage, "t7").await;
    assert_eq!((shown.ahead, shown.is_exact), (3, true));
    // Four attempts in twenty minutes: one each five.
    let start = shown.start.unwrap();
    assert_eq!((start.ended, start.within), (4, secs(1200)));
    assert_eq!(start.at, stage.now() + secs(900));
    assert_eq!(
        stage.causes_of("t7").await,
        [
            "3 tasks are ahead of it; it starts in about 15m, if attempts end as in the last 20m (4 attempts)"
        ]
    );
    assert_eq!(turn(&stage, "t5").await.ahead, 1);
}

/// Otherwise the estimate would jump at the start of each hour.
#[tokio::test]
async fn the_hour_before_counts_while_the_current_one_is_short() {
    let stage = stage().await;
    stage.enqueue(&["a", "b", "c"]).await;
    run(&stage, 1).await;
    stage.clock.advance(secs(45 * 60));
    run(&stage, 1).await;
    stage.report(stage.server("web-1")).await;
    let start = turn(&stage, "c").await.start.unwrap();
    assert_eq!((start.ended, start.within), (2, secs(65 * 60)));
}

/// The outcomes that a server has reported in the current minute.
async fn figures(stage: &Stage, started: u64, succeeded: u64) {
    let point = Point {
        series: Series::QueueMinutes,
        at: Series::QueueMinutes.start_of(stage.now()),
        group: QUEUE.into(),
        key: Point::REST,
        counts: [(0, started), (1, succeeded)].into_iter().collect(),
        note: Vec::new().into(),
    };
    stage.broker.add_points(vec![point]).await.unwrap();
}

/// A queue that stood still for most of the hour is not slow.
#[tokio::test]
async fn the_last_minutes_count_if_there_were_attempts() {
    let stage = stage().await;
    stage.enqueue(&["a", "b", "c"]).await;
    stage.report(stage.server("web-1")).await;
    run(&stage, 1).await;
    figures(&stage, 10, 0).await;
    stage.clock.advance(secs(30));
    figures(&stage, 0, 7).await;
    stage.report(stage.server("web-1")).await;
    // Not a minute has passed.
    let start = turn(&stage, "c").await.start.unwrap();
    assert_eq!((start.ended, start.within), (1, secs(1230)));
    stage.clock.advance(secs(150));
    figures(&stage, 0, 2).await;
    stage.report(stage.server("web-1")).await;
    let start = turn(&stage, "c").await.start.unwrap();
    assert_eq!((start.ended, start.within), (9, secs(180)));
    assert_eq!(start.at, stage.now() + secs(20));
    stage.clock.advance(secs(20 * 60));
    stage.report(stage.server("web-1")).await;
    let start = turn(&stage, "c").await.start.unwrap();
    assert_eq!((start.ended, start.within), (1, secs(2580)));
}

#[tokio::test]
async fn the_position_is_exact_at_both_ends_of_a_long_queue() {
    let stage = stage().await;
    let names: Vec<_> = (0..1102).map(|n| format!("t{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    stage.enqueue(&names).await;
    run(&stage, 1).await;
    stage.report(stage.server("web-1")).await;
    for (id, ahead, is_exact) in [
        ("t1", 0, true),
        ("t500", 499, true),
        ("t501", 500, false),
        ("t601", 500, false),
        ("t602", 601, true),
        ("t1101", 1100, true),
    ] {
        let shown = turn(&stage, id).await;
        assert_eq!((shown.ahead, shown.is_exact), (ahead, is_exact), "{id}");
    }
    let expected = "at least 500 tasks are ahead of it; it starts in 6d 22h at the earliest, if attempts end as in the last \
                    20m (1 attempt)";
    assert_eq!(stage.causes_of("t555").await, [expected]);
}

#[tokio::test]
async fn a_failed_task_waits_for_its_retry_and_then_for_its_turn() {
    let stage = Stage::new();
    stage.enqueue(&["a"]).await;
    let mut leased = stage.lease("web-1", 1).await;
    let delay = secs(90);
    let retry = leased.remove(0).settle(Outcome::Retry { delay });
    Broker::settle(&stage.broker, &[retry]).await.unwrap();
    stage.report(stage.server("web-1")).await;
    let expected = "its last attempt failed: the retry is due in 1m 30s";
    assert_eq!(stage.causes_of("a").await, [expected]);
    stage.clock.advance(secs(90));
    stage.report(stage.server("web-1")).await;
    assert_eq!(kinds(&stage.why_task("a").await.causes), ["turn"]);
}
