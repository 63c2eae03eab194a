//! A snapshot of a broker, and its differences from the previous one.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::{Duration, Instant},
};

use asynqueue_core::{
    broker::{BrokerError, Pausable, Pause, ServerInfo},
    inspector::{Inspector, QueueInfo},
    task::{Name, TaskRef, TaskState, Timestamp},
};
use serde_json::{Map, Value, json};

use super::{failures::RecentFailures, pause};
use crate::web::{
    attention::{Concern, Figures, concerns},
    figures::{TOTALS, lost, total},
    show,
    version::{
        version_of_attention, version_of_groups, version_of_minute, version_of_queues,
        version_of_schedules, version_of_servers, version_of_task, version_of_tasks,
    },
};

/// The seconds that the live chart shows.
const RECENT: usize = 120;

/// The interval between backlog samples, and their number.
const SAMPLE: Duration = Duration::from_secs(10);
const SAMPLES: usize = 7;

/// The state of a broker at one moment.
pub(in crate::web) struct Snapshot {
    /// When the read started.
    pub(in crate::web) at: Instant,
    /// How long the read took.
    pub(super) took: Duration,
    pub(in crate::web) queues: Vec<QueueInfo>,
    pub(in crate::web) servers: Vec<ServerInfo>,
    /// The current problems.
    pub(in crate::web) concerns: Vec<Concern>,
    now: Timestamp,
    /// The number of the poll.
    pub(super) number: u64,
    /// All numbers, and the changes since the previous snapshot.
    pub(super) all: Value,
    pub(super) changes: Value,
    /// The versions of the watched tasks.
    pub(super) tasks: HashMap<TaskRef, String>,
}

/// What a poll reads in addition to queues and servers.
#[derive(Default)]
pub(super) struct More {
    pub(super) tasks: Vec<TaskRef>,
    pub(super) schedules: bool,
}

/// State that is kept between polls.
#[derive(Default)]
pub(super) struct Past {
    polls: u64,
    ended: Option<(u64, u64)>,
    recent: VecDeque<(u64, u64)>,
    queues: Map<String, Value>,
    sampled: Option<Instant>,
    backlogs: VecDeque<HashMap<Name, u64>>,
}

impl Snapshot {
    pub(super) async fn read(
        inspector: &Inspector,
        failures: &RecentFailures,
        past: &mut Past,
        more: More,
    ) -> Result<Self, BrokerError> {
        let at = Instant::now();
        let (queues, servers, outboxes, failures) = tokio::try_join!(
            inspector.queues(),
            inspector.servers(),
            inspector.outboxes(),
            failures.read(inspector),
        )?;
        let pauses = pauses(inspector, &queues).await?;
        let mut tasks = HashMap::new();
        if !more.tasks.is_empty() {
            let found = inspector.tasks(&more.tasks).await?;
            let versions = found
                .iter()
                .map(|task| version_of_task(inspector, task.as_ref()));
            tasks = more.tasks.iter().cloned().zip(versions).collect();
        }
        let mut schedules = None;
        if more.schedules {
            schedules = Some(version_of_schedules(&inspector.schedules().await?));
        }
        let took = at.elapsed();
        past.polls += 1;
        let figures: Map<_, _> = queues.iter().map(figures).collect();
        let last = past.record_ended(&queues);
        past.sample(&queues, at);
        let now = inspector.now();
        let concerns = concerns(&Figures {
            queues: &queues,
            servers: &servers,
            outboxes: &outboxes,
            failures: &failures,
            pauses: &pauses,
            growing: &past.growing(),
            now,
        });
        let mut common = common(&queues, &servers, now);
        common["versions"]["schedules"] = json!(schedules);
        common["tick"] = json!((took + pause(took)).as_millis() as u64);
        common["versions"]["attention"] = version_of_attention(&concerns, now).into();
        let mut all = common.clone();
        all["queues"] = figures.clone().into();
        all["recent"] = json!(past.recent);
        let mut changes = common;
        changes["queues"] = past.changed(figures).into();
        changes["last"] = json!(last);
        Ok(Self {
            at,
            took,
            concerns,
            now,
            number: past.polls,
            queues,
            servers,
            all,
            changes,
            tasks,
        })
    }

    /// Changes when the problems change, and each minute.
    pub(in crate::web) fn version_of_attention(&self) -> String {
        version_of_attention(&self.concerns, self.now)
    }

    /// The version of the tasks of a queue.
    pub(super) fn version_of_tasks(&self, queue: &Name) -> Option<String> {
        let mut queues = self.queues.iter();
        let found = queues.find(|one| one.name == *queue);
        found.map(version_of_tasks)
    }
}

/// Who paused the paused queues with pending tasks.
async fn pauses(
    inspector: &Inspector,
    queues: &[QueueInfo],
) -> Result<BTreeMap<Name, Pause>, BrokerError> {
    let paused = queues.iter().filter(|queue| queue.stats.paused);
    let names: Vec<_> = paused.map(|queue| queue.name.clone()).collect();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let of: Vec<_> = names.iter().cloned().map(Pausable::Queue).collect();
    let found = names.into_iter().zip(inspector.pauses(&of).await?);
    Ok(found
        .filter_map(|(queue, pause)| Some((queue, pause?)))
        .collect())
}

impl Past {
    /// Records the attempts that have ended since the previous poll.
    fn record_ended(&mut self, queues: &[QueueInfo]) -> Option<(u64, u64)> {
        let succeeded = queues.iter().map(|queue| queue.stats.succeeded).sum();
        let failed = queues.iter().map(|queue| queue.stats.failed).sum();
        let before = self.ended.replace((succeeded, failed))?;
        // The totals shrink when a queue is deleted.
        let last = (
            u64::saturating_sub(succeeded, before.0),
            u64::saturating_sub(failed, before.1),
        );
        self.recent.push_back(last);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        Some(last)
    }

    fn sample(&mut self, queues: &[QueueInfo], now: Instant) {
        if self.sampled.is_some_and(|at| now - at < SAMPLE) {
            return;
        }
        self.sampled = Some(now);
        let pending = |queue: &QueueInfo| {
            let count = queue.stats.count(TaskState::Pending);
            (queue.name.clone(), count)
        };
        self.backlogs
            .push_back(queues.iter().map(pending).collect());
        if self.backlogs.len() > SAMPLES {
            self.backlogs.pop_front();
        }
    }

    /// The queues with more pending tasks in each sample than in the one before.
    fn growing(&self) -> Vec<Name> {
        let Some(last) = self
            .backlogs
            .back()
            .filter(|_| self.backlogs.len() == SAMPLES)
        else {
            return Vec::new();
        };
        let grows = |queue: &&Name| {
            let counts = self.backlogs.iter();
            let counts: Vec<_> = counts.map(|counts| counts.get(*queue)).collect();
            counts.windows(2).all(|pair| pair[0] < pair[1])
        };
        let mut growing: Vec<_> = last.keys().filter(grows).cloned().collect();
        growing.sort();
        growing
    }

    /// The queues whose numbers have changed.
    fn changed(&mut self, figures: Map<String, Value>) -> Map<String, Value> {
        let before = std::mem::replace(&mut self.queues, figures);
        let differs = |(name, figures): &(&String, &Value)| before.get(*name) != Some(*figures);
        let changed = self.queues.iter().filter(differs);
        changed
            .map(|(name, figures)| (name.clone(), figures.clone()))
            .collect()
    }
}

/// The numbers of a queue, formatted for pages.
fn figures(queue: &QueueInfo) -> (String, Value) {
    let mut figures = Map::new();
    for state in TaskState::ALL {
        let count = show::number(queue.stats.count(state));
        figures.insert(state.as_str().into(), count.into());
    }
    let succeeded = show::number(queue.today.succeeded);
    figures.insert("latency".into(), show::wait(queue.stats.latency).into());
    figures.insert("succeeded".into(), succeeded.into());
    figures.insert("failed".into(), show::number(queue.today.failed).into());
    figures.insert("lost".into(), lost(queue.today.lost).into());
    (queue.name.to_string(), figures.into())
}

/// The data for every page.
fn common(queues: &[QueueInfo], servers: &[ServerInfo], now: Timestamp) -> Value {
    let fleet = Fleet::of(servers, now);
    let of_queues = TOTALS.map(|(_, key, figure)| (key, total(figure, queues)));
    let of_servers = [
        ("servers", fleet.servers as u64),
        ("busy", fleet.busy as u64),
        ("slots", fleet.slots as u64),
    ];
    let totals = of_queues.into_iter().chain(of_servers);
    let mut totals: Map<_, _> = totals
        .map(|(key, total)| (key.to_owned(), show::number(total).into()))
        .collect();
    let lost_today = total(|queue| queue.today.lost, queues);
    totals.insert("lost".into(), lost(lost_today).into());
    json!({
        "totals": totals,
        "versions": {
            "queues": version_of_queues(queues),
            "servers": version_of_servers(servers, now),
            "groups": version_of_groups(queues),
            "minute": version_of_minute(now),
        },
    })
}

/// The totals of the running servers.
pub(in crate::web) struct Fleet {
    pub(in crate::web) servers: usize,
    pub(in crate::web) busy: usize,
    pub(in crate::web) slots: usize,
}

impl Fleet {
    pub(in crate::web) fn of(servers: &[ServerInfo], now: Timestamp) -> Self {
        let running = || servers.iter().filter(|server| !server.is_lost(now));
        Self {
            servers: running().count(),
            busy: running().map(|server| server.busy).sum(),
            slots: running().map(|server| server.concurrency).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use asynqueue_core::broker::{HourStats, QueueStats};

    use super::*;

    fn queue(name: &str, pending: u64, succeeded: u64) -> QueueInfo {
        let mut stats = QueueStats::default();
        stats.counts.insert(TaskState::Pending, pending);
        stats.succeeded = succeeded;
        QueueInfo::new(name.into(), stats, HourStats::default())
    }

    #[test]
    fn a_backlog_counts_as_growing_after_a_minute_of_growth() {
        let (mut past, start) = (Past::default(), Instant::now());
        for sample in 0..SAMPLES as u32 {
            assert_eq!(past.growing(), [] as [Name; 0]);
            let size = u64::from(sample);
            let queues = [queue("grows", size, 0), queue("stays", 9, 0)];
            past.sample(&queues, start + sample * SAMPLE);
            // A sample that comes too early is ignored.
            past.sample(&[], start + sample * SAMPLE);
        }
        assert_eq!(past.growing(), [Name::from("grows")]);
        past.sample(&[queue("grows", 6, 0)], start + SAMPLES as u32 * SAMPLE);
        assert_eq!(past.growing(), [] as [Name; 0]);
    }

    #[test]
    fn ended_attempts_are_counted_even_if_a_queue_is_deleted() {
        let mut past = Past::default();
        assert_eq!(past.record_ended(&[queue("a", 0, 5)]), None);
        assert_eq!(past.record_ended(&[queue("a", 0, 8)]), Some((3, 0)));
        assert_eq!(past.record_ended(&[]), Some((0, 0)));
        assert_eq!(past.recent, [(3, 0), (0, 0)]);
    }

    #[test]
    fn only_changed_queues_are_sent_again() {
        let mut past = Past::default();
        let mut poll = |queues: [QueueInfo; 2]| {
            let changed = past.changed(queues.iter().map(figures).collect());
            changed.keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(poll([queue("a", 1, 0), queue("b", 1, 0)]), ["a", "b"]);
        assert_eq!(poll([queue("a", 1, 0), queue("b", 2, 0)]), ["b"]);
    }
}
