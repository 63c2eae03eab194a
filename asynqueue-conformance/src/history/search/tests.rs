//! Histories of one register, known to have an order or not.

use super::*;

/// What a client did with the register, and what it saw.
#[derive(Clone, Copy)]
enum Step {
    Write(u64),
    Read(u64),
}

use Step::{Read, Write};

struct Register(Vec<Step>);

impl Specification for Register {
    type State = u64;

    fn start(&self) -> u64 {
        0
    }

    fn apply(&self, state: &u64, step: usize, _: &Taken) -> Vec<u64> {
        match self.0[step] {
            Write(value) => vec![value],
            Read(value) if value == *state => vec![value],
            Read(_) => Vec::new(),
        }
    }

    fn digest(&self, state: &u64) -> u64 {
        *state
    }
}

/// Steps with their start and end.
fn judge(steps: &[(u64, Option<u64>, Step)]) -> Found {
    let span = |(begin, end, _): &(u64, Option<u64>, Step)| Span {
        begin: *begin,
        end: *end,
        after: None,
        before: None,
        rank: None,
    };
    let spans: Vec<_> = steps.iter().map(span).collect();
    let register = Register(steps.iter().map(|(_, _, step)| *step).collect());
    search(&register, &spans, 10_000).0
}

#[test]
fn a_history_without_a_step_has_an_order() {
    assert_eq!(judge(&[]), Found::Order);
}

#[test]
fn steps_one_after_the_other_are_in_that_order() {
    let write = (1, Some(2), Write(7));
    assert_eq!(judge(&[write, (3, Some(4), Read(7))]), Found::Order);
    assert_eq!(judge(&[write, (3, Some(4), Read(0))]), Found::NoOrder);
}

#[test]
fn steps_at_the_same_time_are_in_any_order() {
    for seen in [0, 7] {
        let steps = [(1, Some(4), Write(7)), (2, Some(3), Read(seen))];
        assert_eq!(judge(&steps), Found::Order, "{seen}");
    }
}

/// A first client sees the new value, and a second one, which starts later, the old one.
#[test]
fn a_value_that_was_seen_does_not_disappear() {
    let write = (1, Some(10), Write(7));
    let steps = [write, (2, Some(3), Read(7)), (4, Some(5), Read(0))];
    assert_eq!(judge(&steps), Found::NoOrder);
    let steps = [write, (2, Some(3), Read(0)), (4, Some(5), Read(7))];
    assert_eq!(judge(&steps), Found::Order);
}

#[test]
fn a_step_of_unknown_outcome_was_taken_at_any_later_time_or_never() {
    let lost = (1, None, Write(7));
    for seen in [[0, 0], [0, 7], [7, 7]] {
        let reads = [(2, Some(3), Read(seen[0])), (4, Some(5), Read(seen[1]))];
        assert_eq!(judge(&[lost, reads[0], reads[1]]), Found::Order, "{seen:?}");
    }
    let steps = [lost, (2, Some(3), Read(7)), (4, Some(5), Read(0))];
    assert_eq!(judge(&steps), Found::NoOrder);
}

#[test]
fn a_step_of_unknown_outcome_was_not_taken_before_it_started() {
    let steps = [(1, Some(2), Read(7)), (3, None, Write(7))];
    assert_eq!(judge(&steps), Found::NoOrder);
}

#[test]
fn a_step_of_unknown_outcome_was_taken_once() {
    let steps = [
        (1, None, Write(7)),
        (2, Some(3), Read(7)),
        (4, Some(5), Write(8)),
        (6, Some(7), Read(7)),
    ];
    assert_eq!(judge(&steps), Found::NoOrder);
}

#[test]
fn a_step_follows_the_previous_one_in_its_call() {
    let span = |after| Span {
        begin: 1,
        end: Some(4),
        after,
        before: None,
        rank: None,
    };
    let read = Span {
        begin: 5,
        end: Some(6),
        after: None,
        before: None,
        rank: None,
    };
    let register = Register(vec![Write(1), Write(2), Read(1)]);
    let found = |spans: [Span; 3]| search(&register, &spans, 100).0;
    assert_eq!(found([span(Some(1)), span(None), read]), Found::Order);
    assert_eq!(found([span(None), span(Some(0)), read]), Found::NoOrder);
}

#[test]
fn a_step_that_may_come_before_another_does_not_come_after_it() {
    let span = |begin, end, before| Span {
        begin,
        end,
        after: None,
        before,
        rank: None,
    };
    let register = Register(vec![Write(1), Write(2), Read(2), Read(1)]);
    let found = |before, [first, then]: [usize; 2]| {
        let mut spans = [
            span(1, Some(4), None),
            span(1, None, before),
            span(0, None, None),
            span(0, None, None),
        ];
        spans[first] = span(5, Some(6), None);
        spans[then] = span(7, Some(8), None);
        search(&register, &spans, 100).0
    };
    assert_eq!(found(None, [3, 2]), Found::Order);
    assert_eq!(found(Some(0), [3, 2]), Found::NoOrder);
}

#[test]
fn a_search_gives_up_after_too_many_tries() {
    let writes: Vec<_> = (0..12).map(|value| (1, Some(2), Write(value))).collect();
    let mut steps = writes;
    steps.push((3, Some(4), Read(99)));
    assert_eq!(judge(&steps), Found::Undecided);
}

/// Without the memory there would be as many tries as orders: 12 factorial.
#[test]
fn a_known_state_is_not_searched_again() {
    let mut steps: Vec<_> = (0..12).map(|_| (1, Some(2), Write(1))).collect();
    steps.push((3, Some(4), Read(99)));
    let span = |(begin, end, _): &(u64, Option<u64>, Step)| Span {
        begin: *begin,
        end: *end,
        after: None,
        before: None,
        rank: None,
    };
    let spans: Vec<_> = steps.iter().map(span).collect();
    let register = Register(steps.iter().map(|(_, _, step)| *step).collect());
    let (found, tries) = search(&register, &spans, 1_000_000);
    assert_eq!(found, Found::NoOrder);
    assert!(tries <= 12 << 12, "{tries}");
}
