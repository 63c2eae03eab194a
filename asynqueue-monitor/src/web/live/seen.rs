//! What is seen of a broker at one time, and how it differs from what was seen before.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use asynqueue_core::{
    BrokerError, Inspector, Name, ServerInfo, TaskRef, TaskState, inspector::QueueInfo,
};
use serde_json::{Map, Value, json};

use super::version;
use crate::web::show;

/// How many seconds the chart of the moment shows.
const RECENT: usize = 120;

/// How far apart the looks at backlogs are, and how many of them.
const SAMPLE: Duration = Duration::from_secs(10);
const SAMPLES: usize = 7;

/// What was seen at one time.
pub(in crate::web) struct Seen {
    /// When it was asked for.
    pub(in crate::web) at: Instant,
    pub(in crate::web) queues: Vec<QueueInfo>,
    pub(in crate::web) servers: Vec<ServerInfo>,
    /// The queues whose backlog has grown for a minute.
    pub(in crate::web) growing: Vec<Name>,
    /// Counts the looks.
    pub(super) number: u64,
    /// All figures, and those that have changed since the look before.
    pub(super) all: Value,
    pub(super) changes: Value,
    /// The versions of the tasks that are watched.
    pub(super) tasks: HashMap<TaskRef, String>,
}

/// What is remembered from one look to the next.
#[derive(Default)]
pub(super) struct Past {
    looks: u64,
    ended: Option<(u64, u64)>,
    recent: VecDeque<(u64, u64)>,
    queues: Map<String, Value>,
    sampled: Option<Instant>,
    backlogs: VecDeque<HashMap<Name, u64>>,
}

/// A queue whose next task has waited for longer than this needs attention.
pub(in crate::web) const SLOW: Duration = Duration::from_secs(300);

/// Whether so many of a queue's attempts fail that somebody should look.
pub(in crate::web) fn is_failing(queue: &QueueInfo) -> bool {
    let ended = queue.today.succeeded + queue.today.failed;
    ended >= 20 && queue.today.failed * 20 > ended
}

impl Seen {
    pub(super) async fn read(
        inspector: &Inspector,
        past: &mut Past,
        watched: &[TaskRef],
    ) -> Result<Self, BrokerError> {
        let at = Instant::now();
        let (queues, servers) = tokio::join!(inspector.queues(), inspector.servers());
        let (queues, servers) = (queues?, servers?);
        let mut tasks = HashMap::new();
        if !watched.is_empty() {
            let found = inspector.broker().tasks(watched).await?;
            let versions = found.iter().map(version);
            tasks = watched.iter().cloned().zip(versions).collect();
        }
        past.looks += 1;
        let figures: Map<_, _> = queues.iter().map(figures).collect();
        let last = past.note_ended(&queues);
        past.sample(&queues, at);
        let growing = past.growing();
        let mut common = common(&queues, &servers);
        let attention = version_of_attention(&queues, &servers, &growing);
        common["versions"]["attention"] = attention.into();
        let mut all = common.clone();
        all["queues"] = figures.clone().into();
        all["recent"] = json!(past.recent);
        let mut changes = common;
        changes["queues"] = past.changed(figures).into();
        changes["last"] = json!(last);
        Ok(Self {
            at,
            growing,
            number: past.looks,
            queues,
            servers,
            all,
            changes,
            tasks,
        })
    }

    /// Changes when something else needs attention.
    pub(in crate::web) fn version_of_attention(&self) -> String {
        version_of_attention(&self.queues, &self.servers, &self.growing)
    }
}

fn version_of_attention(queues: &[QueueInfo], servers: &[ServerInfo], growing: &[Name]) -> String {
    let is_slow = |queue: &&QueueInfo| queue.stats.latency > SLOW && !queue.stats.paused;
    let slow = queues.iter().filter(is_slow).map(|queue| &queue.name);
    let failing = queues.iter().filter(|queue| is_failing(queue));
    let failing = failing.map(|queue| &queue.name);
    let waits = queues
        .iter()
        .any(|queue| queue.stats.count(TaskState::Pending) > 0);
    let names = slow.chain(failing).chain(growing).collect::<Vec<_>>();
    version((names, waits && servers.is_empty(), servers.len()))
}

impl Past {
    /// Notes how many attempts have ended since the look before.
    fn note_ended(&mut self, queues: &[QueueInfo]) -> Option<(u64, u64)> {
        let succeeded = queues.iter().map(|queue| queue.stats.succeeded).sum();
        let failed = queues.iter().map(|queue| queue.stats.failed).sum();
        let before = self.ended.replace((succeeded, failed))?;
        // Less than before if a queue was deleted.
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

    /// Those with more tasks waiting at each look than at the one before.
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

    /// The queues whose figures are others than before.
    fn changed(&mut self, figures: Map<String, Value>) -> Map<String, Value> {
        let before = std::mem::replace(&mut self.queues, figures);
        let differs = |(name, figures): &(&String, &Value)| before.get(*name) != Some(*figures);
        let changed = self.queues.iter().filter(differs);
        changed
            .map(|(name, figures)| (name.clone(), figures.clone()))
            .collect()
    }
}

/// The figures of a queue, as they are written on pages.
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
    (queue.name.to_string(), figures.into())
}

/// What all pages show.
fn common(queues: &[QueueInfo], servers: &[ServerInfo]) -> Value {
    let sum = |of: fn(&QueueInfo) -> u64| show::number(queues.iter().map(of).sum());
    json!({
        "totals": {
            "pending": sum(|queue| queue.stats.count(TaskState::Pending)),
            "succeeded": sum(|queue| queue.today.succeeded),
            "failed": sum(|queue| queue.today.failed),
            "servers": servers.len().to_string(),
            "busy": servers.iter().map(|server| server.busy).sum::<usize>().to_string(),
            "slots": servers.iter().map(|server| server.concurrency).sum::<usize>().to_string(),
        },
        "versions": { "queues": version_of_queues(queues), "servers": version(servers) },
    })
}

/// Changes when a queue appears, goes away, is paused or resumed.
pub(in crate::web) fn version_of_queues(queues: &[QueueInfo]) -> String {
    let shown = queues.iter().map(|queue| (&queue.name, queue.stats.paused));
    version(shown.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use asynqueue_core::{HourStats, QueueStats};

    use super::*;

    fn queue(name: &str, pending: u64, succeeded: u64) -> QueueInfo {
        QueueInfo {
            name: name.into(),
            stats: QueueStats {
                counts: BTreeMap::from([(TaskState::Pending, pending)]),
                succeeded,
                ..QueueStats::default()
            },
            today: HourStats::default(),
            memory: None,
            slot: None,
        }
    }

    #[test]
    fn a_backlog_grows_if_it_does_so_for_a_minute() {
        let (mut past, start) = (Past::default(), Instant::now());
        for sample in 0..SAMPLES as u32 {
            assert_eq!(past.growing(), [] as [Name; 0]);
            let size = u64::from(sample);
            let queues = [queue("grows", size, 0), queue("stays", 9, 0)];
            past.sample(&queues, start + sample * SAMPLE);
            // One that comes too early does not count.
            past.sample(&[], start + sample * SAMPLE);
        }
        assert_eq!(past.growing(), [Name::from("grows")]);
        past.sample(&[queue("grows", 6, 0)], start + SAMPLES as u32 * SAMPLE);
        assert_eq!(past.growing(), [] as [Name; 0]);
    }

    #[test]
    fn what_ended_between_two_looks_is_told_also_when_a_queue_is_gone() {
        let mut past = Past::default();
        assert_eq!(past.note_ended(&[queue("a", 0, 5)]), None);
        assert_eq!(past.note_ended(&[queue("a", 0, 8)]), Some((3, 0)));
        assert_eq!(past.note_ended(&[]), Some((0, 0)));
        assert_eq!(past.recent, [(3, 0), (0, 0)]);
    }

    #[test]
    fn only_what_has_changed_is_told_again() {
        let mut past = Past::default();
        let mut look = |queues: [QueueInfo; 2]| {
            let changed = past.changed(queues.iter().map(figures).collect());
            changed.keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(look([queue("a", 1, 0), queue("b", 1, 0)]), ["a", "b"]);
        assert_eq!(look([queue("a", 1, 0), queue("b", 2, 0)]), ["b"]);
    }
}
