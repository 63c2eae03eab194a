//! Tests of the checker: it finds each kind of violation, and accepts what has a cause.

use std::{collections::BTreeMap, path::Path};

use asynqueue_core::task::FailureKind;

use super::{Checker, Promise};
use crate::chaos::{
    history::History,
    rest::{Archived, Rest},
    stage::Fault,
};

/// The faults in these journals.
const FAULTS: [Fault; 5] = [
    Fault::STOP,
    Fault::severe("blackhole"),
    Fault::severe("pause"),
    Fault::severe("hold"),
    Fault::mild("late"),
];

/// What a checker finds in these journals. Lines start with milliseconds.
fn found(journals: &[(&str, &str)], rest: &Rest) -> Vec<Promise> {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, lines) in journals {
        write(dir.path(), name, lines);
    }
    let history = History::read(dir.path(), &FAULTS);
    let checker = Checker::check(&history, rest);
    let mut found: Vec<_> = checker.broken.iter().map(|broken| broken.promise).collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn write(dir: &Path, name: &str, lines: &str) {
    let micros = |line: &str| line.trim().replacen(' ', "000 ", 1) + "\n";
    let text: String = lines.trim().lines().map(micros).collect();
    std::fs::write(dir.join(format!("{name}.journal")), text).expect("a journal");
}

fn counted(succeeded: u64, unsuccessful: u64) -> Rest {
    Rest {
        succeeded,
        unsuccessful,
        ..Rest::default()
    }
}

const SENT: &str = "1000 try plain-p-1 north 0 -\n1001 ack plain-p-1";

#[test]
fn a_task_that_ran_once_and_is_counted_violates_nothing() {
    let ran = "1100 start north plain-p-1 1 w.1 0\n1110 end north plain-p-1 1 w.1 ok";
    let journals = [("producer", SENT), ("worker_0.1", ran)];
    assert_eq!(found(&journals, &counted(1, 0)), []);
    assert_eq!(found(&journals, &counted(2, 0)), [Promise::Counters]);
    assert_eq!(found(&journals, &counted(1, 1)), [Promise::Counters]);
}

#[test]
fn an_accepted_task_without_an_end_is_lost_and_one_without_a_response_may_be() {
    assert_eq!(
        found(&[("producer", SENT)], &counted(0, 0)),
        [Promise::Lost]
    );
    let unsure = SENT.replace("ack", "unsure");
    assert_eq!(found(&[("producer", &unsure)], &counted(0, 0)), []);
    let killed = SENT.lines().next().expect("a line");
    assert_eq!(found(&[("producer", killed)], &counted(0, 0)), []);
}

#[test]
fn a_task_that_was_refused_must_not_run() {
    let sent = SENT.replace("ack", "refused");
    let ran = "1100 start north plain-p-1 1 w.1 0\n1110 end north plain-p-1 1 w.1 ok";
    let journals = [("producer", sent.as_str()), ("worker_0.1", ran)];
    assert_eq!(found(&journals, &counted(1, 0)), [Promise::Refused]);
    let known = SENT.replace("ack", "known");
    let found = found(&[("producer", &known)], &counted(0, 0));
    assert_eq!(found, [Promise::Refused]);
}

#[test]
fn an_attempt_starts_twice_only_if_it_was_released() {
    let ran = |end: &str| {
        format!(
            "1100 start north plain-p-1 1 worker_0.1 0\n1110 end north plain-p-1 1 worker_0.1 {end}\n\
             1200 start north plain-p-1 1 worker_0.1 0\n1210 end north plain-p-1 1 worker_0.1 ok"
        )
    };
    let of = |end: &str| {
        let ran = ran(end);
        found(&[("producer", SENT), ("worker_0.1", &ran)], &counted(1, 0))
    };
    assert_eq!(of("stopped"), []);
    assert_eq!(of("ok"), [Promise::Twice]);
    assert_eq!(of("failed"), [Promise::Twice]);
}

#[test]
fn runs_of_a_task_overlap_only_if_its_worker_was_away_for_most_of_a_lease() {
    let first =
        "1100 start north plain-p-1 1 worker_0.1 0\n9000 end north plain-p-1 1 worker_0.1 ok";
    let second =
        "8000 start north plain-p-1 2 worker_1.1 0\n8010 end north plain-p-1 2 worker_1.1 ok";
    let of = |faults: &str| {
        let pulses: String = (1..10_000)
            .step_by(500)
            .map(|at| format!("{at} pulse\n"))
            .collect();
        let mut lines: Vec<_> = pulses.lines().chain(first.lines()).collect();
        let at = |line: &&str| {
            line.split(' ')
                .next()
                .map(|at| at.parse::<u64>().expect("a time"))
        };
        lines.sort_by_key(at);
        let first = lines.join("\n");
        let journals = [
            ("producer", SENT),
            ("worker_0.1", &first),
            ("worker_1.1", second),
            ("faults", faults),
        ];
        found(&journals, &counted(1, 1))
    };
    assert_eq!(
        of("1200 begin stop worker_0.1\n5200 end stop worker_0.1"),
        []
    );
    assert_eq!(
        of("1200 begin blackhole worker_0\n5200 end blackhole worker_0"),
        []
    );
    assert_eq!(of("1200 begin pause all\n5200 end pause all"), []);
    assert_eq!(of("1200 died worker_0.1"), []);
    let of_another = "1200 begin stop worker_1.1\n5200 end stop worker_1.1";
    assert_eq!(of(of_another), [Promise::Overlap]);
    let too_short = "1200 begin stop worker_0.1\n1300 end stop worker_0.1";
    assert_eq!(of(too_short), [Promise::Overlap]);
    let mild = "1200 begin late worker_0\n5200 end late worker_0";
    assert_eq!(of(mild), [Promise::Overlap]);
}

#[test]
fn an_attempt_that_never_started_requires_a_worker_that_was_away() {
    let ran = "7000 start north plain-p-1 2 worker_0.1 0\n7010 end north plain-p-1 2 worker_0.1 ok";
    let of = |faults: &str| {
        let journals = [("producer", SENT), ("worker_0.1", ran), ("faults", faults)];
        found(&journals, &counted(1, 1))
    };
    assert_eq!(of(""), [Promise::Unstarted]);
    assert_eq!(of("1200 begin hold worker_0\n5200 end hold worker_0"), []);
}

#[test]
fn no_task_starts_before_it_is_due() {
    let sent = "1000 try delayed-p-1 north 2000000 -\n1001 ack delayed-p-1";
    let ran = |at: u64| {
        format!("{at} start north delayed-p-1 1 w.1 0\n2500 end north delayed-p-1 1 w.1 ok")
    };
    let of = |at| {
        found(
            &[("producer", sent), ("worker_0.1", &ran(at))],
            &counted(1, 0),
        )
    };
    assert_eq!(of(1_990), [Promise::Early]);
    assert_eq!(of(2_001), []);
}

#[test]
fn a_unique_key_has_one_holder_at_a_time() {
    let of = |second: u64| {
        let sent = format!(
            "1000 try unique-p-1 north 0 k\n1001 ack unique-p-1\n{second} try unique-p-2 north 0 k\n{} ack unique-p-2",
            second + 1
        );
        let ran = "1100 start north unique-p-1 1 w.1 0\n1500 end north unique-p-1 1 w.1 ok\n\
                   1600 start north unique-p-2 1 w.1 0\n1700 end north unique-p-2 1 w.1 ok";
        found(&[("producer", &sent), ("worker_0.1", ran)], &counted(2, 0))
    };
    assert_eq!(of(1_200), [Promise::Unique]);
    assert_eq!(of(1_510), []);
}

#[test]
fn a_member_is_in_one_aggregate() {
    let sent = "1000 try member-p-1 north 0 -\n1001 ack member-p-1";
    let one = "1100 start north made1 1 w.1 member-p-1\n1110 end north made1 1 w.1 ok";
    let two = "1200 start north made2 1 w.1 member-p-1\n1210 end north made2 1 w.1 ok";
    let both = format!("{one}\n{two}");
    let of = |ran: &str, count| {
        found(
            &[("producer", sent), ("worker_0.1", ran)],
            &counted(count, 0),
        )
    };
    assert_eq!(of(one, 1), []);
    assert_eq!(of("", 0), [Promise::Group]);
    assert_eq!(of(&both, 2), [Promise::Group]);
}

#[test]
fn every_tick_has_one_task() {
    let tick = |id: &str, tick: u64| {
        format!(
            "{tick} start north {id} 1 w.1 pulse@{tick}\n{} end north {id} 1 w.1 ok\n",
            tick + 1
        )
    };
    let of = |ticks: &[(&str, u64)]| {
        let ran: String = ticks.iter().map(|(id, at)| tick(id, *at)).collect();
        found(&[("worker_0.1", &ran)], &counted(ticks.len() as u64, 0))
    };
    assert_eq!(of(&[("a", 1_000), ("b", 2_000)]), []);
    assert_eq!(of(&[("a", 1_000), ("b", 3_000)]), [Promise::Tick]);
    assert_eq!(of(&[("a", 1_000), ("b", 1_000)]), [Promise::Tick]);
}

#[test]
fn nothing_runs_against_a_confirmed_operation() {
    let of = |kind: &str, did: &str, more: &str| {
        let sent = format!(
            "1000 try {kind}-o-1 north 0 -\n1001 ack {kind}-o-1\n1010 ask {kind}-o-1 east\n1020 did {kind}-o-1 east {did}"
        );
        let ran =
            format!("1100 start north {kind}-o-1 1 w.1 {more}\n1110 end north {kind}-o-1 1 w.1 ok");
        found(&[("operator", &sent), ("worker_0.1", &ran)], &counted(1, 0))
    };
    assert_eq!(of("deleted", "done", "0"), [Promise::Operator]);
    assert_eq!(of("cancelled", "cancelled", "0"), [Promise::Operator]);
    assert_eq!(of("moved", "done", "0"), [Promise::Operator]);
    assert_eq!(of("edited", "done", "0"), [Promise::Operator]);
    assert_eq!(of("edited", "done", "1"), []);
    for kind in ["deleted", "moved", "edited", "cancelled"] {
        assert_eq!(of(kind, "refused", "0"), [], "{kind}");
    }
}

#[test]
fn a_task_is_archived_only_for_a_reason_in_the_journals() {
    let of = |id: &str, kind: FailureKind| {
        let sent = format!("1000 try {id} north 0 -\n1001 ack {id}");
        let archived = Archived {
            kind: Some(kind),
            message: String::new(),
            attempts: 1,
            at: 9_000_000,
        };
        let rest = Rest {
            archived: BTreeMap::from([(id.to_owned(), archived)]),
            ..counted(0, 1)
        };
        found(&[("producer", &sent)], &rest)
    };
    assert_eq!(of("gives_up-o-1", FailureKind::Error), []);
    assert_eq!(of("plain-p-1", FailureKind::Error), [Promise::Lost]);
    assert_eq!(
        of("once-p-1", FailureKind::LeaseExpired),
        [Promise::Unstarted]
    );
}

#[test]
fn a_result_belongs_to_its_task() {
    let sent = "1000 try awaited-p-4 north 0 -\n1001 ack awaited-p-4";
    let ran = "1100 start north awaited-p-4 1 w.1 0\n1110 end north awaited-p-4 1 w.1 ok";
    let of = |result: u64| {
        let sent = format!("{sent}\n1200 result awaited-p-4 {result}");
        found(&[("producer", &sent), ("worker_0.1", ran)], &counted(1, 0))
    };
    assert_eq!(of(13), []);
    assert_eq!(of(14), [Promise::Result]);
}
