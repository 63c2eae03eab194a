//! Histories that have an order only for a store that locks single tasks.

use std::time::Duration;

use asynqueue_conformance::history::{Answer, Call, Promises, Request};
use asynqueue_core::{
    broker::{Change, Edited, Extended, Outcome, Settled},
    task::TaskState,
};

use crate::{
    calls::{
        HOUR, by, complete, edit, edited, enqueue, extend, lease, look, of_edited, settle,
        settlement,
    },
    has_order, has_order_with,
};

/// Tasks take their place before they are pending.
fn placed_before() -> Promises {
    Promises {
        places_at_once: false,
        ..Promises::default()
    }
}

/// Extensions and outcomes of ended leases do not wait for other calls.
fn unwaiting() -> Promises {
    Promises {
        waits_for_holders: false,
        ..Promises::default()
    }
}

fn one_after_the_other(tasks: [(&str, u64); 2]) -> [Call; 2] {
    let [first, then] = tasks;
    [lease(11..12, &[first, then]), lease(13..14, &[])]
}

/// `a` was seen missing after `b` was there, and is leased before it.
#[test]
fn a_task_may_be_ahead_of_one_that_became_pending_at_the_same_time() {
    let history = |a: Call| {
        let b = by(1, enqueue(2..3, "b"));
        let missing = by(1, look(4..5, "a", None));
        [a, b, missing]
            .into_iter()
            .chain(one_after_the_other([("a", 1), ("b", 2)]))
    };
    assert!(has_order_with(
        &placed_before(),
        history(enqueue(1..6, "a"))
    ));
    assert!(!has_order(history(enqueue(1..6, "a"))), "it came later");
    let later = history(by(2, enqueue(6..7, "a")));
    assert!(
        !has_order_with(&placed_before(), later),
        "its call started later"
    );
}

#[test]
fn tasks_that_one_call_makes_pending_have_its_order() {
    let [mut both, second] = [enqueue(1..6, "a"), enqueue(1..6, "b")];
    let (Request::Enqueue(tasks), Request::Enqueue(more)) = (&mut both.request, second.request)
    else {
        unreachable!("both enqueue a task")
    };
    tasks.extend(more);
    both.answer = Some(Ok(Answer::Enqueued(vec![Ok(()), Ok(())])));
    let judged = |tasks| {
        let rest = one_after_the_other(tasks);
        has_order_with(&placed_before(), [both.clone()].into_iter().chain(rest))
    };
    assert!(judged([("a", 1), ("b", 2)]));
    assert!(!judged([("b", 1), ("a", 2)]));
}

#[test]
fn a_released_task_stays_ahead_of_new_ones() {
    let mut release = settlement("a", 1, Outcome::Release);
    release.envelope = edited("a");
    let start = [
        enqueue(1..2, "a"),
        lease(3..4, &[("a", 1)]),
        settle(5..9, &release, Settled::Recorded),
        by(1, enqueue(6..7, "b")),
    ];
    let judged = |tasks| {
        let rest = one_after_the_other(tasks).map(|lease| of_edited("a", lease));
        has_order_with(&placed_before(), start.iter().cloned().chain(rest))
    };
    assert!(judged([("a", 2), ("b", 3)]));
    assert!(!judged([("b", 2), ("a", 3)]), "it is behind none");
}

#[test]
fn a_task_that_is_edited_in_its_place_keeps_what_its_call_could_choose() {
    let history = |a: Call| {
        let b = by(1, enqueue(2..3, "b"));
        let missing = by(1, look(4..5, "a", None));
        let in_place = Change::Put {
            envelope: edited("a"),
            to: None,
        };
        let edited = edit(7..8, "a", in_place, Edited::Done);
        [a, b, missing, edited]
            .into_iter()
            .chain([of_edited("a", lease(11..12, &[("a", 1), ("b", 2)]))])
    };
    assert!(has_order_with(
        &placed_before(),
        history(enqueue(1..6, "a"))
    ));
    assert!(!has_order(history(enqueue(1..6, "a"))));
}

fn expired() -> [Call; 3] {
    [
        enqueue(1..2, "a"),
        lease(3..4, &[("a", 1)]),
        extend(5..6, "a", 1, Duration::ZERO),
    ]
}

/// An edit that changes nothing, because the task is active.
fn refused(time: std::ops::Range<u64>, id: &str) -> Call {
    let mut edit = edit(time, id, Change::Delete, Edited::Refused);
    if let Request::Edit(edits) = &mut edit.request {
        edits[0].seen.state = TaskState::Active;
    }
    by(1, edit)
}

#[test]
fn an_outcome_of_an_ended_lease_is_left_out_only_beside_a_call_about_the_same_task() {
    let mut outcome = complete("a", 1);
    outcome.only_if_expired = true;
    let judged = |promises: &Promises, beside: Call| {
        let stale = settle(8..11, &outcome, Settled::Stale);
        let active = look(12..13, "a", Some(TaskState::Active));
        let rest = [stale, beside, active];
        has_order_with(promises, expired().into_iter().chain(rest))
    };
    assert!(judged(&unwaiting(), refused(9..10, "a")));
    assert!(!judged(&Promises::default(), refused(9..10, "a")));
    let before = refused(6..7, "a");
    assert!(!judged(&unwaiting(), before), "it ended before");
    let of_another = by(1, enqueue(9..10, "b"));
    assert!(!judged(&unwaiting(), of_another), "of another task");
    outcome.only_if_expired = false;
    let stale = settle(8..11, &outcome, Settled::Stale);
    let any = expired().into_iter().chain([stale, refused(9..10, "a")]);
    assert!(!has_order_with(&unwaiting(), any), "it waits");
}

#[test]
fn an_extension_has_no_effect_only_beside_a_call_about_the_same_task() {
    let mut lost = extend(8..11, "a", 1, HOUR);
    lost.answer = Some(Ok(Answer::Extended(vec![Ok(Extended::Lost)])));
    let judged = |promises: &Promises, beside: Call| {
        let active = look(12..13, "a", Some(TaskState::Active));
        let rest = [lost.clone(), beside, active];
        has_order_with(promises, expired().into_iter().chain(rest))
    };
    assert!(judged(&unwaiting(), refused(9..10, "a")));
    assert!(!judged(&Promises::default(), refused(9..10, "a")));
    assert!(!judged(&unwaiting(), refused(6..7, "a")));

    // Reported, although the lease did not end.
    let mut outcome = complete("a", 1);
    outcome.only_if_expired = true;
    let judged = |promises: &Promises, edited: std::ops::Range<u64>| {
        let history = [
            enqueue(1..2, "a"),
            lease(3..4, &[("a", 1)]),
            extend(5..8, "a", 1, Duration::ZERO),
            refused(edited, "a"),
            settle(11..12, &outcome, Settled::Stale),
        ];
        has_order_with(promises, history)
    };
    assert!(judged(&unwaiting(), 6..7));
    assert!(!judged(&Promises::default(), 6..7));
    assert!(!judged(&unwaiting(), 9..10));
}
