//! Figures of a system, and the problems that are found in them.

use asynqueue_core::{
    broker::{
        ArchiveStats, HourStats, LimitInfo, LimitKind, OutboxInfo, QueueStats, QueueUse,
        ServerInfo, UnhandledTasks,
    },
    failure::{Cause, Ended, Failed, Failures},
    task::FailureKind,
};

use super::*;

mod causes;
mod stopped;
mod unserved;

const NOW: Timestamp = Timestamp::from_millis(10_000_000_000);

/// A healthy system, to which a test adds what is wrong.
#[derive(Default)]
struct System {
    queues: Vec<QueueInfo>,
    servers: Vec<ServerInfo>,
    outboxes: Vec<OutboxInfo>,
    failures: Failures,
    growing: Vec<Name>,
    pauses: BTreeMap<Name, Pause>,
}

impl System {
    fn concerns(&self) -> Vec<Concern> {
        concerns(&Figures {
            queues: &self.queues,
            servers: &self.servers,
            outboxes: &self.outboxes,
            failures: &self.failures,
            growing: &self.growing,
            pauses: &self.pauses,
            now: NOW,
        })
    }

    fn kinds(&self) -> Vec<(&'static str, String)> {
        let all = self.concerns().into_iter();
        all.map(|one| (one.kind, one.title().to_owned())).collect()
    }

    fn texts(&self) -> Vec<String> {
        self.concerns().into_iter().map(|one| one.text).collect()
    }

    /// A queue with a server, in which attempts have ended.
    fn ended(mut self, queue: &str, succeeded: u64, failed: u64, archived: u64) -> Self {
        let ended = Ended::new(succeeded, failed, archived, 0);
        self.failures.queues.insert(queue.into(), ended);
        self
    }

    fn cause(mut self, queue: &str, message: &str, failed: u64, archived: u64) -> Self {
        let cause = Cause::new("card:charge".into(), FailureKind::Error, message);
        let at = ago(90);
        let failed = Failed::new(failed, archived);
        self.failures
            .causes
            .push(cause.with(&queue.into(), failed, at));
        self
    }
}

fn ago(seconds: u64) -> Timestamp {
    NOW - Duration::from_secs(seconds)
}

fn queue(name: &str, pending: u64, latency: u64) -> QueueInfo {
    let mut stats = QueueStats::default();
    stats.counts.insert(TaskState::Pending, pending);
    stats.latency = Duration::from_secs(latency);
    QueueInfo::new(name.into(), stats, HourStats::default())
}

fn server(name: &str, silent: u64, queues: &[&str]) -> ServerInfo {
    let mut server = ServerInfo::new(name, Timestamp::default());
    server.seen = ago(silent);
    server.queues = queues.iter().map(|name| (Name::from(*name), 1)).collect();
    server.concurrency = 1;
    server
}

/// The order of kinds would hide the gravest problem behind many small ones.
#[test]
fn the_problem_with_the_most_tasks_comes_first() {
    let mut system = System::default()
        .ended("payments", 244, 49_064, 49_064)
        .ended("mail", 19_000, 300, 0)
        .cause(
            "payments",
            "400 unknown parameter (request req_8fA2)",
            48_000,
            48_000,
        )
        .cause(
            "payments",
            "card_declined: insufficient_funds",
            1_064,
            1_064,
        )
        .cause("mail", "421 try again", 300, 0);
    let names: Vec<_> = (0..6).map(|place| format!("slow-{place}")).collect();
    let mut taken: Vec<_> = names.iter().map(String::as_str).collect();
    system.queues = names.iter().map(|name| queue(name, 40, 700)).collect();
    system.queues.push(queue("nobody", 5_000, 12));
    taken.push("mail");
    system.servers = vec![server("one", 1, &taken)];
    let kinds = system.kinds();
    let first: Vec<_> = kinds
        .iter()
        .map(|(kind, title)| (*kind, title.as_str()))
        .collect();
    assert_eq!(
        first[..4],
        [
            ("failing_cause", "payments"),
            ("unserved_queue", "nobody"),
            ("failing_cause", "payments"),
            ("slow_queue", "slow-0"),
        ]
    );
    assert_eq!(kinds.len(), 10);
    assert_eq!(
        system.texts()[0],
        "card:charge fails with error: 400 unknown parameter (request req_#). 48\u{202f}000 of 49\u{202f}308 attempts failed and 48\u{202f}000 tasks were archived in the last 15 minutes. First 1m 30s ago, last less than 2 minutes ago."
    );
}

#[test]
fn a_cause_leads_to_exactly_its_tasks() {
    let system = System::default()
        .ended("payments", 0, 9, 9)
        .cause("payments", "no", 9, 9);
    let found = system.concerns().remove(0);
    let cause = system.failures.causes[0].fingerprint;
    let (queue, state, filter) = found.tasks().expect("tasks");
    assert_eq!((&**queue, state), ("payments", TaskState::Archived));
    assert_eq!(*filter, Filter::default().cause(cause));

    let system = System::default()
        .ended("payments", 0, 9, 1)
        .cause("payments", "no", 9, 1);
    let found = system.concerns().remove(0);
    assert_eq!(found.tasks().expect("tasks").1, TaskState::Retry);

    let mut several = System::default().cause("a", "no", 5, 5);
    let cause = several.failures.causes.remove(0);
    let cause = cause.with(&"b".into(), Failed::new(2, 2), ago(400));
    several.failures.causes.push(cause.clone());
    let found = several.concerns().remove(0);
    assert_eq!(found.place, Place::Cause(cause.fingerprint));
    assert_eq!(found.queue, None);
    assert!(
        found
            .text
            .contains(", in a, b. First 6m 40s ago, last less than 2 minutes ago."),
        "{}",
        found.text
    );
}

#[test]
fn a_single_archived_task_is_reported_and_a_few_retries_are_not() {
    let kinds = |succeeded, failed, archived| {
        let system = System::default().ended("mail", succeeded, failed, archived);
        system.cause("mail", "no", failed, archived).kinds().len()
    };
    assert_eq!(kinds(10_000, 1, 1), 1, "one archived task");
    assert_eq!(kinds(1, 5, 0), 1, "most attempts");
    assert_eq!(kinds(10_000, 400, 0), 1, "many failures");
    assert_eq!(kinds(0, 4, 0), 0, "a few");
    assert_eq!(kinds(981, 99, 0), 1, "above 5 %");
    assert_eq!(kinds(1_982, 99, 0), 0, "below 5 %");
    assert_eq!(kinds(0, 0, 0), 0);
}

#[test]
fn a_queue_that_fails_for_many_causes_is_reported_by_itself() {
    let mut system = System::default().ended("mail", 10, 30, 0);
    for user in ["ada", "eve", "bob"] {
        system = system.cause("mail", &format!("no such user: {user}"), 1, 0);
    }
    assert_eq!(system.kinds(), [("failing_queue", "mail".to_owned())]);
    assert_eq!(
        system.texts(),
        ["30 of 40 attempts failed in the last 15 minutes, for many causes."]
    );
}

/// A worker that was killed says nothing about the tasks that it ran.
#[test]
fn lost_attempts_are_not_failures() {
    let mut system = System::default();
    system
        .failures
        .queues
        .insert("mail".into(), Ended::new(5, 0, 0, 4));
    assert_eq!(
        system.texts(),
        [
            "4 attempts were lost with their worker in the last 15 minutes: their lease expired. The tasks run again."
        ]
    );
}

#[test]
fn a_queue_that_nobody_serves_is_not_called_slow() {
    let mut system = System {
        queues: vec![queue("mail", 40, 1_357)],
        ..System::default()
    };
    assert_eq!(system.kinds(), [("no_server", "Servers".to_owned())]);
    system.servers = vec![server("one", 1, &["other"])];
    assert_eq!(
        system.texts(),
        ["no server takes from this queue: 40 tasks pending, the next one for 22m 37s."]
    );
    let mut quiet = server("two", 1, &["mail"]);
    quiet.quiet = true;
    system.servers.push(quiet);
    assert!(system.texts()[0].starts_with("the only server that takes from this queue is quiet: "));
    system.servers[1].quiet = false;
    assert_eq!(system.kinds(), [("slow_queue", "mail".to_owned())]);
    system.queues[0].stats.latency = Duration::from_secs(300);
    assert_eq!(system.kinds(), []);
    system.growing = vec!["mail".into()];
    assert_eq!(system.kinds(), [("growing_queue", "mail".to_owned())]);
}

/// Otherwise it would be called slow, as if it needed more servers.
#[test]
fn a_limit_that_holds_tasks_back_is_named() {
    let mut system = System {
        queues: vec![queue("video", 41, 1_140)],
        servers: vec![server("one", 1, &["video"])],
        ..System::default()
    };
    system.servers[0].concurrency = 8;
    system.servers[0].queue_use = vec![QueueUse::new("video", 4).with_max(4)];
    let found = system.concerns().remove(0);
    assert_eq!((found.kind, found.count), ("limited_queue", 41));
    assert!(
        found.text.contains("one") && found.text.ends_with(": 41 tasks waiting."),
        "{}",
        found.text
    );
    system.queues[0].stats.latency = Duration::from_secs(60);
    assert_eq!(system.kinds(), [], "for a short time only");

    system.queues[0].stats.counts.clear();
    let mut limit = LimitInfo::new(LimitKind::Rate, vec!["video:cut".into()], 5);
    limit.period = Some(Duration::from_secs(1));
    (limit.used, limit.waiting, limit.queues) = (5, 49, vec!["video".into()]);
    system.servers[0].queue_use.clear();
    system.servers[0].limits = vec![limit];
    assert_eq!(system.kinds(), [], "a few rounds");
    system.servers[0].limits[0].waiting = 50;
    let found = system.concerns().remove(0);
    assert_eq!((found.kind, found.count), ("limited_queue", 50));
    assert!(
        found.text.ends_with("; about 50 tasks wait for it."),
        "{}",
        found.text
    );
    assert_eq!(found.tasks().expect("tasks").1, TaskState::Scheduled);
}

/// Otherwise a list of tenants would hide everything else.
#[test]
fn many_queues_that_nobody_serves_share_an_entry() {
    let mut system = System {
        servers: vec![server("one", 1, &["other"])],
        ..System::default()
    };
    let tenants =
        |count: u64| (0..count).map(|place| queue(&format!("tenant-{place}"), 9 + place, 1));
    system.queues = tenants(4).collect();
    assert_eq!(system.kinds().len(), 4);
    system.queues = tenants(9).collect();
    let texts = system.texts();
    assert_eq!(texts.len(), 4);
    assert_eq!(
        texts[0],
        "No server takes from 6 more queues with 69 tasks: tenant-5, tenant-4, tenant-3, 3 others."
    );
    let titles: Vec<_> = system.kinds().into_iter().map(|(_, title)| title).collect();
    assert_eq!(titles, ["Servers", "tenant-8", "tenant-7", "tenant-6"]);
    let covers = &system.concerns()[0].covers;
    assert_eq!(covers[5], ("unserved_queue", "tenant-0".to_owned()));
    assert_eq!(covers.len(), 6);
}

#[test]
fn a_paused_queue_with_a_backlog_is_reported_and_an_empty_one_is_not() {
    let mut system = System {
        queues: vec![queue("mail", 1, 60)],
        ..System::default()
    };
    system.servers = vec![server("one", 1, &["mail"])];
    system.queues[0].stats.paused = true;
    assert_eq!(
        system.texts(),
        ["the queue is paused, with 1 task pending, the next one for 1m."]
    );
    let pause = Pause::new(ago(120)).because("the bank is away");
    system.pauses.insert("mail".into(), pause);
    let text = &system.texts()[0];
    assert!(
        text.contains("the bank is away") && text.contains("2m"),
        "{text}"
    );
    system.queues[0].stats.counts.clear();
    assert_eq!(system.kinds(), []);
}

#[test]
fn an_event_that_no_server_of_its_queue_handles_is_reported_with_its_waiting_tasks() {
    let released = |event: &str, tasks| UnhandledTasks::new("mail".into(), event.into(), tasks);
    let (mut one, mut two) = (server("one", 1, &["mail"]), server("two", 1, &["mail"]));
    one.unhandled = vec![released("a", 1_200), released("b", 5)];
    two.unhandled = vec![released("a", 34)];
    two.events = vec!["b".into()];
    let mut lost = server("lost", 60, &["mail"]);
    lost.events = vec!["a".into()];
    lost.unhandled = vec![released("a", 1_000_000)];
    // It handles the event, but never sees the tasks.
    let mut elsewhere = server("elsewhere", 1, &["other"]);
    elsewhere.events = vec!["a".into()];
    let system = System {
        servers: vec![one, two, lost, elsewhere],
        ..System::default()
    };
    let all = system.concerns();
    assert_eq!(all[0].kind, "unhandled_event");
    assert_eq!(
        all[0].text,
        "no running server handles `a`: 1\u{202f}234 tasks waiting. Start a server with a handler for it."
    );
    let (queue, state, filter) = all[0].tasks().expect("tasks");
    assert_eq!((&**queue, state), ("mail", TaskState::Scheduled));
    assert_eq!(*filter, Filter::default().event("a"));
    assert_eq!(all.len(), 2, "the lost server, and nothing of `b`");
}

#[test]
fn a_lost_server_does_not_count_as_running_and_is_forgotten_after_the_span() {
    let mut system = System {
        queues: vec![queue("mail", 1, 0)],
        ..System::default()
    };
    system.servers = vec![server("gone", 120, &["mail"])];
    assert_eq!(
        system.texts(),
        [
            "gone was lost 2m ago. No tasks were running there.",
            "Tasks are pending, but no server is running.",
        ]
    );
    system.servers[0].busy = 3;
    assert_eq!(
        system.texts()[0],
        "gone was lost 2m ago. The 3 tasks that were running there wait until their leases expire, and for other servers of \
         their queues.",
    );
    // Otherwise a notification would report that the first has cleared when the second is lost.
    system.servers.push(server("other", 60, &["mail"]));
    let about = |system: &System| {
        let lost = system.concerns().into_iter();
        let lost = lost.filter(|one| one.kind == "lost_servers");
        lost.map(|one| one.about).collect::<Vec<_>>()
    };
    assert_eq!(about(&system), ["gone", "other"]);
    let many = ["a", "b"].map(|name| server(name, 60, &["mail"]));
    system.servers.extend(many);
    assert_eq!(about(&system), [""]);
    let all = system.concerns().into_iter();
    let covers = all.flat_map(|one| one.covers.into_iter().map(|(_, name)| name));
    assert_eq!(covers.collect::<Vec<_>>(), ["gone", "other", "a", "b"]);
    system.servers = vec![server("gone", 900, &["mail"]), server("one", 1, &["mail"])];
    assert_eq!(system.kinds(), []);
    system.servers[1].abandoned = 2;
    assert_eq!(
        system.texts(),
        ["one has 2 abandoned handlers that block their threads past their timeout."]
    );
}

#[test]
fn a_trimmed_archive_and_a_nearly_full_one_are_reported_with_the_reason() {
    const HOUR: u64 = 3_600;
    let archive = |archived, trimmed_by_count, trimmed_by_age, hours: u64| {
        let mut queue = queue("mail", 0, 0);
        queue.stats.counts = [(TaskState::Archived, archived)].into();
        queue.stats.archive = ArchiveStats::default();
        queue.stats.archive.max = Some(100);
        queue.stats.archive.trimmed_by_count = trimmed_by_count;
        queue.stats.archive.trimmed_by_age = trimmed_by_age;
        queue.stats.archive.last_trimmed = Some(ago(hours * HOUR));
        System {
            queues: vec![queue],
            ..System::default()
        }
    };
    assert_eq!(
        archive(100, 38_900, 7, 2).texts(),
        [
            "archived tasks were deleted: 38\u{202f}900 over the limit of 100 and 7 over the age limit. Last deletion: 2h ago.",
            "the archive holds 100 of at most 100 tasks. Beyond this limit, the oldest are deleted.",
        ]
    );
    assert_eq!(archive(79, 0, 7, 23).kinds().len(), 1);
    assert_eq!(archive(79, 0, 7, 24).kinds(), [], "a day is over");
}

#[test]
fn an_outbox_is_reported_if_its_entries_do_not_become_tasks() {
    let report = |seen: u64, age: u64, failed: u64| {
        let mut outbox = OutboxInfo::new("id", "shop", ago(seen));
        (outbox.age, outbox.failed) = (age * 1_000, failed);
        System {
            outboxes: vec![outbox],
            ..System::default()
        }
        .texts()
    };
    assert_eq!(report(30, 300, 0), Vec::<String>::new());
    let lost = "Outbox shop: no relay moves its tasks. Last report: 31s ago.";
    assert_eq!(report(31, 0, 3), [lost]);
    let waits = "Outbox shop: the oldest entry has been waiting for 6m.";
    assert_eq!(report(5, 360, 1), [waits]);
    assert_eq!(report(5, 0, 2), ["Outbox shop: 2 entries have failed."]);
    assert_eq!(report(5, 0, 1), ["Outbox shop: 1 entry has failed."]);
}
