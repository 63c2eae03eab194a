//! A queue that fails for many causes.

use super::*;

/// A queue that failed once for each of many causes, of which servers keep some.
fn many_causes(kept: u64, failed: u64) -> System {
    let names = (0..kept).map(|place| ["a", "b", "c"].map(|name| name.repeat(place as usize + 1)));
    names.fold(
        System::default().ended("users", 0, failed, failed),
        |system, [a, b, c]| system.cause("users", &format!("{a} {b} {c} is unknown"), 1, 1),
    )
}

/// The failures of causes that are not kept count for the queue only.
#[test]
fn failures_that_no_cause_explains_are_reported_by_queue() {
    let system = many_causes(50, 10_000);
    assert_eq!(system.kinds()[0], ("failing_queue", "users".to_owned()));
    assert_eq!(
        system.texts()[0],
        "9\u{202f}995 of 10\u{202f}000 attempts failed and 9\u{202f}995 tasks were archived in the last 15 minutes, for many other causes."
    );
    assert_eq!(system.kinds().len(), 1 + 5, "the others share the entry");
    let first = &system.concerns()[0];
    assert_eq!((first.count, first.covers.len()), (9_995, 45));
}

#[test]
fn a_few_causes_are_listed_each() {
    assert_eq!(
        many_causes(6, 6).kinds(),
        vec![("failing_cause", "users".to_owned()); 6]
    );
    assert_eq!(many_causes(7, 7).kinds().len(), 1 + 5);
}

/// Otherwise a common cause would hide that everything else fails as well.
#[test]
fn a_cause_does_not_hide_the_other_failures_of_its_queue() {
    let system =
        System::default()
            .ended("mail", 0, 1_100, 0)
            .cause("mail", "421 try again", 900, 0);
    assert_eq!(
        system.kinds(),
        [
            ("failing_cause", "mail".to_owned()),
            ("failing_queue", "mail".to_owned())
        ]
    );
    assert!(system.texts()[1].starts_with("200 of 1\u{202f}100 attempts failed"));
    let system = System::default()
        .ended("mail", 0, 904, 0)
        .cause("mail", "421 try again", 900, 0);
    assert_eq!(system.kinds().len(), 1, "a few");
}

/// Like a cause, the entry clears when its tasks have been retried.
#[test]
fn causes_that_have_stopped_weigh_what_they_left_behind() {
    let mut system = many_causes(50, 10_000);
    for cause in &mut system.failures.causes {
        cause.last = ago(300);
    }
    system.queues = vec![queue("users", 0, 0)];
    system.servers = vec![server("one", 1, &["users"])];
    assert_eq!(system.kinds(), []);
    system.queues[0]
        .stats
        .counts
        .insert(TaskState::Archived, 40);
    assert_eq!(system.concerns()[0].weight, 40);
}
