//! Histories that are known to have an order, or to have none.

mod calls;
mod weaker;

use std::time::Duration;

use asynqueue_conformance::history::{Answer, Call, History, Promises, Request};
use asynqueue_core::{
    broker::{BrokerError, Change, Conflict, Edited, Extended, NewTask, Outcome, Settled, When},
    task::{Envelope, TaskState},
};

use self::calls::{
    HOUR, again, by, complete, edit, enqueue, extend, failed, lease, look, of, settle, settlement,
    task,
};

/// A call with several leases, of which the last can fail.
const IN_STEPS: Promises = Promises {
    leases_at_once: false,
    leases_whole_within: Duration::from_secs(10),
    extends_once: true,
    leases_in_order: true,
    places_at_once: true,
    waits_for_holders: true,
    refuses_in_order: true,
};

/// A lease that may pass over tasks that another call holds.
const PAST_OTHERS: Promises = Promises {
    leases_at_once: true,
    leases_whole_within: Duration::MAX,
    extends_once: true,
    leases_in_order: false,
    places_at_once: true,
    waits_for_holders: true,
    refuses_in_order: true,
};

fn has_order_with(promises: &Promises, calls: impl IntoIterator<Item = Call>) -> bool {
    match History::new(calls.into_iter().collect()).judge(promises) {
        Ok(_) => true,
        Err(violation) => {
            assert!(!violation.is_undecided(), "{violation}");
            false
        }
    }
}

fn has_order(calls: impl IntoIterator<Item = Call>) -> bool {
    has_order_with(&Promises::default(), calls)
}

#[test]
fn a_task_is_leased_once_it_is_enqueued_and_to_one_client() {
    assert!(has_order([enqueue(1..2, "a"), lease(3..4, &[("a", 1)])]));
    assert!(has_order([enqueue(1..4, "a"), lease(2..3, &[("a", 1)])]));
    assert!(!has_order([lease(1..2, &[("a", 1)]), enqueue(3..4, "a")]));
    let twice = [("a", 1), ("a", 2)].map(|one| [one]);
    let [first, second] = [lease(3..4, &twice[0]), lease(3..4, &twice[1])];
    assert!(!has_order([enqueue(1..2, "a"), first, second]));
    assert!(
        !has_order([enqueue(1..2, "a"), lease(3..4, &[])]),
        "the task exists"
    );
}

#[test]
fn an_id_is_accepted_once_and_the_refusal_contains_the_state_of_its_task() {
    assert!(!has_order([enqueue(1..3, "a"), by(1, enqueue(2..4, "a"))]));
    for (state, is_right) in [(TaskState::Pending, true), (TaskState::Active, false)] {
        let mut refused = enqueue(3..4, "a");
        let conflict = Conflict::Id {
            task: of("a"),
            state,
        };
        refused.answer = Some(Ok(Answer::Enqueued(vec![Err(conflict)])));
        assert_eq!(
            has_order([enqueue(1..2, "a"), refused]),
            is_right,
            "{state}"
        );
    }
}

#[test]
fn tasks_are_leased_in_the_order_they_were_enqueued_in() {
    let lease = |ids: [&str; 2]| lease(7..8, &[(ids[0], 1), (ids[1], 2)]);
    let in_turn = || [enqueue(1..2, "a"), enqueue(3..4, "b")];
    assert!(has_order(in_turn().into_iter().chain([lease(["a", "b"])])));
    assert!(!has_order(in_turn().into_iter().chain([lease(["b", "a"])])));
    for ids in [["a", "b"], ["b", "a"]] {
        let at_once = [enqueue(1..4, "a"), enqueue(2..3, "b"), lease(ids)];
        assert!(has_order(at_once), "{ids:?}");
    }
}

#[test]
fn a_lease_that_failed_took_tasks_or_did_not() {
    let lost = || failed(lease(3..4, &[]));
    let start = || [enqueue(1..2, "a"), lost()];
    assert!(has_order(start().into_iter().chain([lease(5..6, &[])])));
    assert!(has_order(
        start().into_iter().chain([lease(5..6, &[("a", 1)])])
    ));
    // It does not release what it took.
    let taken_and_there = [lease(5..6, &[]), lease(7..8, &[("a", 1)])];
    assert!(!has_order(start().into_iter().chain(taken_and_there)));
}

#[test]
fn the_next_lease_of_a_worker_returns_what_its_failed_lease_took() {
    let start = || {
        [
            enqueue(1..2, "a"),
            failed(lease(3..4, &[])),
            by(1, lease(5..6, &[])),
        ]
    };
    let next = || again(lease(7..8, &[("a", 1)]));
    assert!(has_order(start().into_iter().chain([next()])));
    assert!(
        !has_order(start().into_iter().chain([by(1, next())])),
        "of another worker"
    );
    let settled = settle(9..10, &complete("a", 1), Settled::Recorded);
    assert!(
        has_order(start().into_iter().chain([next(), settled])),
        "under the new token"
    );
}

#[test]
fn a_failed_enqueue_takes_effect_at_any_later_time_but_once() {
    let look = |time, state| by(1, look(time, "a", state));
    let pending = Some(TaskState::Pending);
    let late = || {
        [
            failed(enqueue(1..2, "a")),
            look(3..4, None),
            look(5..6, pending),
        ]
    };
    assert!(has_order(late()));
    assert!(!has_order(late().into_iter().chain([look(7..8, None)])));
}

#[test]
fn an_invalid_token_settles_nothing() {
    let release = settlement("a", 1, Outcome::Release);
    let start = || {
        [
            enqueue(1..2, "a"),
            lease(3..4, &[("a", 1)]),
            settle(5..6, &release, Settled::Recorded),
            by(1, lease(7..8, &[("a", 2)])),
        ]
    };
    let stale = |answer| settle(9..10, &complete("a", 1), answer);
    assert!(has_order(
        start().into_iter().chain([stale(Settled::Stale)])
    ));
    assert!(!has_order(
        start().into_iter().chain([stale(Settled::Recorded)])
    ));
}

/// The first one is recorded, as the lookup shows. A repetition returns the same, or the result of an invalid token.
#[test]
fn an_outcome_that_is_settled_again_is_recorded_once() {
    let done = complete("a", 1);
    let start = || [enqueue(1..2, "a"), lease(3..4, &[("a", 1)])];
    let first = || failed(settle(5..6, &done, Settled::Recorded));
    for answer in [Settled::Recorded, Settled::Stale] {
        let rest = [first(), look(7..8, "a", None), settle(9..10, &done, answer)];
        assert!(has_order(start().into_iter().chain(rest)), "{answer:?}");
        let rest = [
            first(),
            failed(settle(7..8, &done, answer)),
            look(9..10, "a", None),
            settle(11..12, &done, answer),
        ];
        assert!(has_order(start().into_iter().chain(rest)), "{answer:?}");
    }
    let rest = [
        look(7..8, "a", None),
        settle(9..10, &done, Settled::Recorded),
    ];
    assert!(
        !has_order(start().into_iter().chain(rest)),
        "nothing came before it"
    );
    let rest = [
        first(),
        settle(7..8, &done, Settled::Stale),
        look(9..10, "a", Some(TaskState::Active)),
    ];
    assert!(
        !has_order(start().into_iter().chain(rest)),
        "its token is invalid, and still counts"
    );
}

#[test]
fn an_outcome_for_an_expired_lease_counts_once_the_lease_has_ended() {
    let mut reclaimed = settlement("a", 1, Outcome::Release);
    reclaimed.only_if_expired = true;
    let start = || [enqueue(1..2, "a"), lease(3..4, &[("a", 1)])];
    let settled = |answer| settle(7..8, &reclaimed, answer);
    let (zero, hour) = (
        extend(5..6, "a", 1, Duration::ZERO),
        extend(5..6, "a", 1, HOUR),
    );
    for (extended, answer, is_right) in [
        (&zero, Settled::Recorded, true),
        (&zero, Settled::Stale, false),
        (&hour, Settled::Recorded, false),
        (&hour, Settled::Stale, true),
    ] {
        let rest = [extended.clone(), settled(answer)];
        let calls = start().into_iter().chain(rest);
        assert_eq!(has_order(calls), is_right, "{answer:?}");
    }
}

/// A store that keeps its responses reports again that it is stale, although the lease has expired since.
#[test]
fn a_repeated_outcome_for_an_expired_lease_may_return_the_first_result() {
    let mut reclaimed = settlement("a", 1, Outcome::Release);
    reclaimed.only_if_expired = true;
    let settled = |time, answer| settle(time, &reclaimed, answer);
    let ended = |time| extend(time, "a", 1, Duration::ZERO);
    let (active, stale) = (Some(TaskState::Active), Settled::Stale);
    let history = |first, end| {
        let start = [enqueue(1..2, "a"), lease(3..4, &[("a", 1)])];
        let rest = [first, end, settled(9..10, stale), look(11..12, "a", active)];
        start.into_iter().chain(rest)
    };
    assert!(has_order(history(
        failed(settled(5..6, stale)),
        ended(7..8)
    )));
    assert!(
        !has_order(history(ended(5..6), failed(settled(7..8, stale)))),
        "the lease ended before the first"
    );
}

#[test]
fn a_repeated_extension_takes_effect_before_its_response() {
    let mut reclaimed = settlement("a", 1, Outcome::Release);
    reclaimed.only_if_expired = true;
    let mut extended = by(1, extend(5..10, "a", 1, Duration::ZERO));
    extended.answer = Some(Ok(Answer::Extended(vec![Ok(Extended::Lost)])));
    let settled = settle(7..8, &reclaimed, Settled::Recorded);
    let calls = [
        enqueue(1..2, "a"),
        lease(3..4, &[("a", 1)]),
        extended,
        settled,
    ];
    assert!(!has_order(calls.clone()));
    let again = Promises {
        extends_once: false,
        ..Promises::default()
    };
    assert!(has_order_with(&again, calls.clone()));
    let mut late = calls;
    (late[2].begin, late[2].end) = (9, Some(10));
    assert!(
        !has_order_with(&again, late),
        "it started after the outcome"
    );
}

#[test]
fn an_edit_is_made_only_to_the_version_that_was_seen() {
    let start = || [enqueue(1..2, "a"), lease(3..4, &[("a", 1)])];
    for (answer, is_right) in [
        (Edited::Changed, true),
        (Edited::Done, false),
        (Edited::Refused, false),
    ] {
        let calls = start()
            .into_iter()
            .chain([edit(5..6, "a", Change::Delete, answer)]);
        assert_eq!(has_order(calls), is_right, "{answer:?}");
    }
    let at_once = [
        start(),
        [
            edit(1..6, "a", Change::Delete, Edited::Done),
            look(7..8, "a", None),
        ],
    ];
    assert!(
        !has_order(at_once.into_iter().flatten()),
        "it was leased before, or not at all"
    );
}

#[test]
fn a_call_that_leases_in_steps_takes_what_is_next_in_each() {
    let answer = || lease(3..8, &[("b", 1), ("a", 2)]);
    let calls = || [enqueue(1..2, "b"), by(1, enqueue(4..5, "a")), answer()];
    assert!(has_order_with(&IN_STEPS, calls()));
    // Fewer than requested, although there is another.
    let fewer = || lease(5..6, &[("a", 1)]);
    let calls = || [enqueue(1..2, "a"), enqueue(3..4, "b"), fewer()];
    assert!(!has_order_with(&IN_STEPS, calls()));
    let mut slow = calls();
    slow[2].took = Duration::from_secs(10);
    assert!(
        has_order_with(&IN_STEPS, slow.clone()),
        "its last step may have failed"
    );
    assert!(!has_order(slow), "there is one step");
}

#[test]
fn queues_are_checked_separately_and_an_error_affects_only_its_queue() {
    let mut call = lease(3..4, &[("a", 1)]);
    call.request = Request::Lease {
        queues: vec![("left".into(), 2), ("right".into(), 2)],
        lease: HOUR,
    };
    if let Some(Ok(Answer::Leased(queues))) = &mut call.answer {
        queues.push(Err(BrokerError::unavailable("away")));
    }
    let mut other = NewTask::new(Envelope::clone(&task("a")), When::Now);
    other.envelope.queue = "right".into();
    let mut right = enqueue(1..2, "a");
    right.request = Request::Enqueue(vec![other]);
    let calls = || [enqueue(1..2, "a"), right.clone(), call.clone()];
    assert!(has_order(calls()));
    let mut none_left = lease(5..6, &[]);
    none_left.request = Request::Lease {
        queues: vec![("right".into(), 2)],
        lease: HOUR,
    };
    assert!(
        has_order(calls().into_iter().chain([none_left.clone()])),
        "it may have been taken"
    );
    assert!(!has_order([right, none_left]), "no call can have taken it");
}

#[test]
fn a_violation_shows_the_contradictory_responses_first() {
    let calls = vec![
        enqueue(1..2, "a"),
        enqueue(3..4, "b"),
        lease(5..6, &[("a", 1), ("b", 2)]),
        by(1, lease(7..8, &[("a", 3)])),
        enqueue(9..10, "c"),
    ];
    let judged = History::new(calls).judge(&Promises::default());
    assert_eq!(
        judged.expect_err("two leases").to_string(),
        "queue `left`: no order of the calls explains these 2 responses, regardless of the others:
     5..6    client 0: lease for 3600s up to 2 -> a [payload] 1, b [payload] 2
     7..8    client 1: lease for 3600s up to 2 -> a [payload] 3
the 2 others until then:
     1..2    client 0: enqueue a [payload] -> accepted
     3..4    client 0: enqueue b [payload] -> accepted
"
    );
}

#[test]
fn a_lease_passes_over_tasks_only_if_they_are_new_or_another_call_may_hold_them() {
    let judged = |promises: &Promises, leases: &[Call]| {
        let enqueued = [enqueue(1..2, "a"), enqueue(3..4, "b")];
        has_order_with(promises, enqueued.into_iter().chain(leases.iter().cloned()))
    };
    let beside = [lease(5..8, &[("b", 2)]), by(1, lease(6..7, &[("a", 1)]))];
    assert!(judged(&PAST_OTHERS, &beside));
    assert!(!judged(&Promises::default(), &beside), "out of order");
    let after = [lease(5..6, &[("b", 2)]), by(1, lease(7..8, &[("a", 1)]))];
    assert!(!judged(&PAST_OTHERS, &after), "nobody held the other one");
    let twice = [lease(5..8, &[("b", 2)]), by(1, lease(6..7, &[("b", 1)]))];
    assert!(!judged(&PAST_OTHERS, &twice), "leased twice");
    let newer = [
        enqueue(1..2, "a"),
        by(1, enqueue(4..5, "b")),
        by(1, look(6..7, "a", Some(TaskState::Pending))),
        lease(3..8, &[("a", 1)]),
    ];
    assert!(has_order_with(&PAST_OTHERS, newer.clone()));
    assert!(!has_order(newer), "it left the newer one");
    let none = [lease(5..8, &[]), by(1, lease(6..7, &[("a", 1)]))];
    assert!(!judged(&PAST_OTHERS, &none), "the other task was pending");
}
