//! Causes of failures that have stopped.

use super::*;

/// A queue in which a cause stopped four minutes ago, with the tasks that are left of it.
fn stopped(archived: u64, retry: u64) -> System {
    let mut info = queue("payments", 0, 0);
    info.stats.counts.insert(TaskState::Archived, archived);
    info.stats.counts.insert(TaskState::Retry, retry);
    let mut system = System::default().ended("payments", 6_000, 2_000, 2_000);
    system = system.cause("payments", "400 unknown parameter", 2_000, 2_000);
    system.failures.causes[0].last = ago(240);
    system.queues = vec![info];
    system
}

/// Otherwise a cause that was mended and retried would be the first entry for another quarter of an hour.
#[test]
fn a_cause_that_has_stopped_clears_when_none_of_its_tasks_is_left() {
    assert_eq!(stopped(0, 0).kinds(), []);
    let mut still_failing = stopped(0, 0);
    still_failing.failures.causes[0].last = ago(60);
    assert_eq!(still_failing.kinds().len(), 1);
}

#[test]
fn a_cause_that_has_stopped_weighs_what_it_left_behind() {
    let weights = |system: &System| system.concerns().first().map(|one| (one.weight, one.count));
    assert_eq!(weights(&stopped(7, 2)), Some((9, 2_000)));
    // Other causes may have archived as many in this queue.
    assert_eq!(weights(&stopped(1_000_000, 0)), Some((2_500, 2_000)));
}

/// It is known to the minute, so a time in seconds would claim that failures have ended which have not.
#[test]
fn the_last_failure_is_dated_to_the_minute() {
    let last = |seconds| {
        let mut system = stopped(9, 0);
        system.failures.causes[0].last = ago(seconds);
        let text = system.texts().remove(0);
        text.rsplit_once(", last ").expect("the end").1.to_owned()
    };
    assert_eq!(last(5), "less than a minute ago.");
    assert_eq!(last(60), "less than a minute ago.");
    assert_eq!(last(61), "less than 2 minutes ago.");
    assert_eq!(last(240), "less than 4 minutes ago.");
}

#[test]
fn a_cause_without_a_message_says_so() {
    let system = System::default().ended("mail", 0, 9, 9);
    let text = system.cause("mail", " ", 9, 9).texts().remove(0);
    assert!(
        text.starts_with("card:charge fails with error without a message. 9 of 9"),
        "{text}"
    );
}
