//! Problems that need an operator's attention.

use std::{collections::BTreeMap, time::Duration};

use asynqueue_core::{
    broker::{ArchiveStats, OutboxInfo, ServerInfo},
    inspector::QueueInfo,
    task::{Name, TaskState, Timestamp},
};

use super::show;

/// The latency above which a queue counts as slow.
const SLOW: Duration = Duration::from_secs(300);

/// How long a trimmed archive is reported.
const TRIMMED_RECENTLY: Duration = Duration::from_secs(24 * 3600);

/// A problem that an operator should look at.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Concern {
    /// Tasks are pending, and no server is running.
    NoServer,
    /// Servers that stopped sending heartbeats, with the time of their last one.
    Lost(Vec<(Name, Timestamp)>),
    /// Tasks are waiting whose event no running server handles.
    Unhandled {
        queue: Name,
        event: Name,
        tasks: u64,
    },
    /// Handlers of a server that block their threads past their timeout.
    Stuck { server: Name, handlers: usize },
    /// An outbox whose entries are not relayed, or have failed.
    Outbox { name: Name, problem: OutboxProblem },
    /// The next task of a queue has been pending for too long.
    Slow { queue: Name, latency: Duration },
    /// The backlog of a queue keeps growing.
    Growing { queue: Name },
    /// Too many attempts of a queue fail.
    Failing {
        queue: Name,
        failed: u64,
        ended: u64,
    },
    /// Archived tasks of a queue were trimmed in the last 24 hours.
    Trimmed { queue: Name, archive: ArchiveStats },
    /// The archive of a queue is near its limit.
    ArchiveFull {
        queue: Name,
        archived: u64,
        max: u64,
    },
}

/// Why entries of an outbox do not become tasks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum OutboxProblem {
    /// No relay has reported since then.
    NoRelay(Timestamp),
    /// The oldest entry has been waiting for this long.
    Waiting(Duration),
    /// This many entries have failed.
    Failed(u64),
}

/// All problems, most severe first.
pub(super) fn concerns(
    queues: &[QueueInfo],
    servers: &[ServerInfo],
    outboxes: &[OutboxInfo],
    growing: Vec<Name>,
    now: Timestamp,
) -> Vec<Concern> {
    let mut all = Vec::new();
    let is_lost = |server: &&ServerInfo| server.is_lost(now);
    let waits = |queue: &QueueInfo| queue.stats.count(TaskState::Pending) > 0;
    if servers.iter().all(|server| server.is_lost(now)) && queues.iter().any(waits) {
        all.push(Concern::NoServer);
    }
    let lost = servers.iter().filter(is_lost);
    let lost: Vec<_> = lost
        .map(|server| (server.name.clone(), server.seen))
        .collect();
    if !lost.is_empty() {
        all.push(Concern::Lost(lost));
    }
    all.extend(unhandled(servers, now));
    let stuck = servers.iter().filter(|server| server.abandoned > 0);
    all.extend(stuck.map(|server| Concern::Stuck {
        server: server.name.clone(),
        handlers: server.abandoned,
    }));
    all.extend(
        outboxes
            .iter()
            .filter_map(|outbox| stuck_outbox(outbox, now)),
    );
    all.extend(queues.iter().filter_map(|queue| trimmed(queue, now)));
    let slow = |queue: &&QueueInfo| queue.stats.latency > SLOW && !queue.stats.paused;
    all.extend(queues.iter().filter(slow).map(|queue| Concern::Slow {
        queue: queue.name.clone(),
        latency: queue.stats.latency,
    }));
    all.extend(growing.into_iter().map(|queue| Concern::Growing { queue }));
    all.extend(queues.iter().filter_map(failing));
    all.extend(queues.iter().filter_map(archive_full));
    all
}

fn trimmed(queue: &QueueInfo, now: Timestamp) -> Option<Concern> {
    let archive = queue.stats.archive;
    (now.since(archive.last_trimmed?) < TRIMMED_RECENTLY).then(|| Concern::Trimmed {
        queue: queue.name.clone(),
        archive,
    })
}

fn stuck_outbox(outbox: &OutboxInfo, now: Timestamp) -> Option<Concern> {
    let age = Duration::from_millis(outbox.age);
    let problem = match outbox {
        _ if outbox.is_lost(now) => OutboxProblem::NoRelay(outbox.seen),
        _ if age > SLOW => OutboxProblem::Waiting(age),
        OutboxInfo { failed: 0, .. } => return None,
        _ => OutboxProblem::Failed(outbox.failed),
    };
    let name = outbox.name.clone();
    Some(Concern::Outbox { name, problem })
}

fn archive_full(queue: &QueueInfo) -> Option<Concern> {
    let max = queue.stats.archive.max?;
    queue
        .stats
        .is_archive_nearly_full()
        .then(|| Concern::ArchiveFull {
            queue: queue.name.clone(),
            archived: queue.stats.count(TaskState::Archived),
            max,
        })
}

/// The tasks that servers released because no running server handles their event.
fn unhandled(servers: &[ServerInfo], now: Timestamp) -> Vec<Concern> {
    let running = || servers.iter().filter(|server| !server.is_lost(now));
    let mut waiting = BTreeMap::<(&Name, &Name), u64>::new();
    for released in running().flat_map(|server| &server.unhandled) {
        if !running().any(|server| server.events.contains(&released.event)) {
            let key = (&released.queue, &released.event);
            *waiting.entry(key).or_default() += released.tasks;
        }
    }
    let concern = |((queue, event), tasks): ((&Name, &Name), u64)| Concern::Unhandled {
        queue: queue.clone(),
        event: event.clone(),
        tasks,
    };
    waiting.into_iter().map(concern).collect()
}

/// More than 5 % of at least 20 attempts failed today.
fn failing(queue: &QueueInfo) -> Option<Concern> {
    let failed = queue.today.failed;
    let ended = queue.today.succeeded + failed;
    (ended >= 20 && failed * 20 > ended).then(|| Concern::Failing {
        queue: queue.name.clone(),
        failed,
        ended,
    })
}

impl Concern {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::NoServer => "no_server",
            Self::Lost(_) => "lost_servers",
            Self::Unhandled { .. } => "unhandled_event",
            Self::Stuck { .. } => "stuck_handlers",
            Self::Outbox { .. } => "stuck_outbox",
            Self::Slow { .. } => "slow_queue",
            Self::Growing { .. } => "growing_queue",
            Self::Failing { .. } => "failing_queue",
            Self::Trimmed { .. } => "trimmed_archive",
            Self::ArchiveFull { .. } => "full_archive",
        }
    }

    /// The affected queue, if there is one, and the state of the affected tasks.
    pub(super) fn queue(&self) -> Option<(&Name, TaskState)> {
        match self {
            Self::NoServer | Self::Lost(_) | Self::Stuck { .. } | Self::Outbox { .. } => None,
            Self::Unhandled { queue, .. } => Some((queue, TaskState::Scheduled)),
            Self::Slow { queue, .. } | Self::Growing { queue } => Some((queue, TaskState::Pending)),
            Self::Failing { queue, .. } => Some((queue, TaskState::Retry)),
            Self::Trimmed { queue, .. } | Self::ArchiveFull { queue, .. } => {
                Some((queue, TaskState::Archived))
            }
        }
    }

    /// Identifies the problem. It stays the same while only numbers change.
    pub(super) fn key(&self) -> (&'static str, String) {
        let about = match self {
            Self::NoServer => String::new(),
            Self::Lost(servers) => {
                let names = servers.iter().map(|(name, _)| name.as_str());
                names.collect::<Vec<_>>().join(" ")
            }
            Self::Unhandled { queue, event, .. } => format!("{queue} {event}"),
            Self::Stuck { server, .. } => server.to_string(),
            Self::Outbox { name, .. } => name.to_string(),
            Self::Slow { queue, .. }
            | Self::Growing { queue }
            | Self::Failing { queue, .. }
            | Self::Trimmed { queue, .. }
            | Self::ArchiveFull { queue, .. } => queue.to_string(),
        };
        (self.kind(), about)
    }

    /// The message, without the name of the queue. `top_failure` is the most frequent failure there.
    pub(super) fn text(&self, now: Timestamp, top_failure: Option<&str>) -> String {
        match self {
            Self::NoServer => "Tasks are pending, but no server is running.".into(),
            Self::Lost(servers) => lost(servers, now),
            Self::Unhandled { event, tasks, .. } => format!(
                "no running server handles `{}`: {} {} waiting. Start a server with a handler for it.",
                show::cut(event),
                show::number(*tasks),
                if *tasks == 1 { "task" } else { "tasks" },
            ),
            Self::Stuck { server, handlers } => format!(
                "{server} has {} abandoned handlers that block their threads past their timeout.",
                show::number(*handlers as u64)
            ),
            Self::Outbox { name, problem } => format!("Outbox {name}: {}", problem.text(now)),
            Self::Slow { latency, .. } => {
                format!(
                    "the next task has been pending for {}.",
                    show::duration(*latency)
                )
            }
            Self::Growing { .. } => "the backlog has been growing for a minute.".into(),
            Self::Failing { failed, ended, .. } => {
                let (failed, ended) = (show::number(*failed), show::number(*ended));
                let top = top_failure.map_or(String::new(), |failure| {
                    format!(" Most frequent failure: {}.", show::cut(failure))
                });
                format!("{failed} of {ended} attempts failed today.{top}")
            }
            Self::Trimmed { archive, .. } => trimmed_text(archive, now),
            Self::ArchiveFull { archived, max, .. } => format!(
                "the archive holds {} of at most {} tasks. Beyond this limit, the oldest are deleted.",
                show::number(*archived),
                show::number(*max)
            ),
        }
    }
}

impl OutboxProblem {
    fn text(self, now: Timestamp) -> String {
        match self {
            Self::NoRelay(seen) => {
                let last = show::distance(seen, now);
                format!("no relay moves its tasks. Last report: {last}.")
            }
            Self::Waiting(age) => {
                format!(
                    "the oldest entry has been waiting for {}.",
                    show::duration(age)
                )
            }
            Self::Failed(1) => "1 entry has failed.".into(),
            Self::Failed(entries) => format!("{} entries have failed.", show::number(entries)),
        }
    }
}

fn trimmed_text(archive: &ArchiveStats, now: Timestamp) -> String {
    let (by_count, by_age) = (archive.trimmed_by_count, archive.trimmed_by_age);
    let max = archive
        .max
        .map_or(String::new(), |max| format!(" of {}", show::number(max)));
    let reasons = [
        (by_count, format!("over the limit{max}")),
        (by_age, "over the age limit".to_owned()),
    ];
    let reasons = reasons.iter().filter(|(count, _)| *count > 0);
    let reasons: Vec<_> = reasons
        .map(|(count, why)| format!("{} {why}", show::number(*count)))
        .collect();
    let last = archive
        .last_trimmed
        .map_or(String::new(), |last| show::distance(last, now));
    format!(
        "archived tasks were deleted: {}. Last deletion: {last}.",
        reasons.join(" and ")
    )
}

fn lost(servers: &[(Name, Timestamp)], now: Timestamp) -> String {
    const NAMED: usize = 5;
    let named =
        |(name, seen): &(Name, Timestamp)| format!("{name} ({})", show::distance(*seen, now));
    let named: Vec<_> = servers.iter().take(NAMED).map(named).collect();
    let others = match servers.len().saturating_sub(NAMED) {
        0 => String::new(),
        others => format!(" and {} others", show::number(others as u64)),
    };
    format!(
        "Servers lost in the last hour: {}{others}. Their tasks are reclaimed when the leases expire.",
        named.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use asynqueue_core::broker::{HourStats, QueueStats, UnhandledTasks};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(10_000_000);

    fn queue(name: &str, pending: u64, latency: u64, ended: (u64, u64)) -> QueueInfo {
        let mut stats = QueueStats::default();
        stats.counts.insert(TaskState::Pending, pending);
        stats.latency = Duration::from_secs(latency);
        let mut today = HourStats::default();
        (today.succeeded, today.failed) = ended;
        QueueInfo::new(name.into(), stats, today)
    }

    fn server(name: &str, silent: u64, abandoned: usize) -> ServerInfo {
        let mut server = ServerInfo::new(name, Timestamp::default());
        server.host = "host".into();
        server.pid = 1;
        server.seen = Timestamp::from_millis(NOW.as_millis() - silent * 1_000);
        server.queues = Vec::new();
        server.events = Vec::new();
        server.concurrency = 1;
        server.abandoned = abandoned;
        server
    }

    fn texts(queues: &[QueueInfo], servers: &[ServerInfo]) -> Vec<String> {
        let all = concerns(queues, servers, &[], vec!["grows".into()], NOW);
        let words = |one: &Concern| one.text(NOW, Some("mail:send: no route"));
        all.iter().map(words).collect()
    }

    #[test]
    fn concerns_are_ordered_by_severity_and_healthy_queues_are_omitted() {
        let queues = [
            queue("healthy", 5, 300, (100, 5)),
            queue("slow", 1, 301, (19, 0)),
            queue("failing", 0, 0, (18, 2)),
            queue("few", 0, 0, (0, 19)),
        ];
        assert_eq!(
            texts(&queues, &[server("gone", 120, 0), server("here", 14, 2)]),
            [
                "Servers lost in the last hour: gone (2m ago). Their tasks are reclaimed when the leases expire.",
                "here has 2 abandoned handlers that block their threads past their timeout.",
                "the next task has been pending for 5m 1s.",
                "the backlog has been growing for a minute.",
                "2 of 20 attempts failed today. Most frequent failure: mail:send: no route.",
            ]
        );
    }

    #[test]
    fn a_trimmed_archive_and_a_nearly_full_one_are_reported_with_the_reason() {
        const HOUR: u64 = 3_600_000;
        let now = Timestamp::from_millis(100 * HOUR);
        let archive = |archived, trimmed_by_count, trimmed_by_age, hours_ago: u64| {
            let mut queue = queue("mail", 0, 0, (0, 0));
            queue.stats.counts = [(TaskState::Archived, archived)].into();
            queue.stats.archive = ArchiveStats::default();
            queue.stats.archive.max = Some(100);
            queue.stats.archive.trimmed_by_count = trimmed_by_count;
            queue.stats.archive.trimmed_by_age = trimmed_by_age;
            queue.stats.archive.last_trimmed =
                Some(Timestamp::from_millis((100 - hours_ago) * HOUR));
            let all = concerns(&[queue], &[], &[], vec![], now);
            let words = all.iter().map(|one| (one.kind(), one.text(now, None)));
            words.collect::<Vec<_>>()
        };
        assert_eq!(
            archive(100, 38_900, 7, 2),
            [
                (
                    "trimmed_archive",
                    "archived tasks were deleted: 38\u{202f}900 over the limit of 100 and 7 over the age limit. Last deletion: 2h ago.".to_owned()
                ),
                (
                    "full_archive",
                    "the archive holds 100 of at most 100 tasks. Beyond this limit, the oldest are deleted.".to_owned()
                ),
            ]
        );
        assert_eq!(archive(79, 0, 7, 23).len(), 1);
        assert_eq!(archive(79, 0, 7, 24), [], "a day is over");
    }

    #[test]
    fn an_event_that_no_running_server_handles_is_reported_with_its_waiting_tasks() {
        let released = |event: &str, tasks| UnhandledTasks::new("mail".into(), event.into(), tasks);
        let (mut one, mut two) = (server("one", 1, 0), server("two", 1, 0));
        one.unhandled = vec![released("a", 1_200), released("b", 5)];
        two.unhandled = vec![released("a", 34)];
        two.events = vec!["b".into()];
        let mut lost = server("lost", 60, 0);
        lost.events = vec!["a".into()];
        lost.unhandled = vec![released("a", 1_000_000)];
        let all = concerns(&[], &[one, two, lost], &[], vec![], NOW);
        let unhandled = all.iter().find(|one| one.kind() == "unhandled_event");
        let unhandled = unhandled.expect("a concern");
        let words = "no running server handles `a`: 1\u{202f}234 tasks waiting. Start a server with a handler for it.";
        assert_eq!(unhandled.text(NOW, None), words);
        let mail = Name::from("mail");
        assert_eq!(unhandled.queue(), Some((&mail, TaskState::Scheduled)));
        assert_eq!(all.len(), 2, "the lost server, and nothing of `b`");
    }

    #[test]
    fn a_lost_server_does_not_count_as_running() {
        let queues = [queue("mail", 1, 0, (0, 0))];
        let lost = [server("gone", 16, 0)];
        let none = |queues: &[_], servers: &[_]| concerns(queues, servers, &[], vec![], NOW);
        assert_eq!(none(&queues, &lost)[0], Concern::NoServer);
        assert_eq!(none(&queues, &[]), [Concern::NoServer]);
        assert_eq!(none(&[], &[]), []);
    }

    #[test]
    fn an_outbox_is_reported_if_its_entries_do_not_become_tasks() {
        let report = |seen: u64, age: u64, failed: u64| {
            let seen = Timestamp::from_millis(NOW.as_millis() - seen * 1_000);
            let mut outbox = OutboxInfo::new("id", "shop", seen);
            (outbox.age, outbox.failed) = (age * 1_000, failed);
            let all = concerns(&[], &[], &[outbox], vec![], NOW);
            all.iter()
                .map(|one| one.text(NOW, None))
                .collect::<Vec<_>>()
        };
        assert_eq!(report(30, 300, 0), Vec::<String>::new());
        let lost = "Outbox shop: no relay moves its tasks. Last report: 31s ago.";
        assert_eq!(report(31, 0, 3), [lost]);
        let waits = "Outbox shop: the oldest entry has been waiting for 6m.";
        assert_eq!(report(5, 360, 1), [waits]);
        assert_eq!(report(5, 0, 2), ["Outbox shop: 2 entries have failed."]);
        assert_eq!(report(5, 0, 1), ["Outbox shop: 1 entry has failed."]);
    }
}
