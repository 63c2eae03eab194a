//! Metrics of the broker's queues and servers.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use crate::{
    broker::{BrokerError, QueueStats, ServerInfo, SharedBroker},
    task::{Name, TaskState},
};

/// Reads the figures of a broker's queues, for example for each scrape.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use asynqueue_core::{memory::MemoryBroker, metrics::QueueMetrics};
///
/// let queues = QueueMetrics::new(MemoryBroker::new());
/// queues.collect().await?.record();
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct QueueMetrics {
    broker: SharedBroker,
    max_queues: usize,
}

/// The figures of a broker's queues at one moment.
#[derive(Clone, Debug)]
pub struct QueueSnapshot {
    queues: Vec<Queue>,
    /// How many queues exist, including the ones left out.
    known: usize,
    servers: Vec<ServerInfo>,
}

#[derive(Clone, Debug)]
struct Queue {
    name: Name,
    stats: QueueStats,
    memory: Option<u64>,
}

impl QueueMetrics {
    /// The queues of `broker`.
    pub fn new(broker: impl Into<SharedBroker>) -> Self {
        Self {
            broker: broker.into(),
            max_queues: 1_000,
        }
    }

    /// Sets how many queues are recorded, the first by name, so that scrapes and the memory of the recorder stay
    /// bounded. Default 1,000.
    #[must_use]
    pub fn max_queues(mut self, max: usize) -> Self {
        self.max_queues = max;
        self
    }

    /// Reads the figures, with two small broker calls per queue and two more.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn collect(&self) -> Result<QueueSnapshot, BrokerError> {
        let (names, servers) = tokio::join!(self.broker.queues(), self.broker.servers());
        let (mut names, mut servers, now) = (names?, servers?, self.broker.now());
        servers.retain(|server| !server.is_lost(now));
        let known = names.len();
        names.truncate(self.max_queues);
        let (stats, memory) = tokio::join!(self.broker.stats(&names), self.broker.memory(&names));
        let figures = names.into_iter().zip(stats?).zip(memory?);
        let queues = figures.map(|((name, stats), memory)| Queue {
            name,
            stats,
            memory,
        });
        Ok(QueueSnapshot {
            queues: queues.collect(),
            known,
            servers,
        })
    }
}

impl QueueSnapshot {
    /// Records the figures in the current recorder: the global one, or that of [`metrics::with_local_recorder`]. A
    /// recorder created for each scrape contains no deleted queues.
    pub fn record(&self) {
        describe();
        self.queues.iter().for_each(Queue::record);
        let sum = |of: fn(&ServerInfo) -> usize| self.servers.iter().map(of).sum::<usize>() as f64;
        gauge!("asynqueue_queues").set(self.known as f64);
        gauge!("asynqueue_fleet_servers").set(self.servers.len() as f64);
        gauge!("asynqueue_fleet_slots").set(sum(|server| server.concurrency));
        gauge!("asynqueue_fleet_running").set(sum(|server| server.busy));
        gauge!("asynqueue_fleet_abandoned").set(sum(|server| server.abandoned));
    }
}

impl Queue {
    fn record(&self) {
        let (stats, labels) = (&self.stats, [("queue", self.name.to_string())]);
        // Includes states without tasks, so that a graph falls to zero instead of ending.
        for state in TaskState::ALL {
            let size = gauge!("asynqueue_queue_size", "queue" => self.name.to_string(), "state" => state.as_str());
            size.set(stats.count(state) as f64);
        }
        gauge!("asynqueue_queue_latency_seconds", &labels).set(stats.latency.as_secs_f64());
        gauge!("asynqueue_queue_paused", &labels).set(f64::from(u8::from(stats.paused)));
        if let Some(bytes) = self.memory {
            gauge!("asynqueue_queue_memory_bytes", &labels).set(bytes as f64);
        }
        counter!("asynqueue_queue_processed_total", &labels)
            .absolute(stats.succeeded + stats.failed);
        counter!("asynqueue_queue_failed_total", &labels).absolute(stats.failed);
        counter!("asynqueue_queue_lost_total", &labels).absolute(stats.lost);
        counter!("asynqueue_queue_repaired_total", &labels).absolute(stats.repaired);
        counter!("asynqueue_queue_trimmed_total", &labels).absolute(stats.archive.trimmed());
        if let Some(max) = stats.archive.max {
            gauge!("asynqueue_queue_archived_max", &labels).set(max as f64);
        }
    }
}

fn describe() {
    describe_gauge!("asynqueue_queue_size", "Tasks in the queue, by state");
    describe_gauge!(
        "asynqueue_queue_latency_seconds",
        Unit::Seconds,
        "Time that the next task has been pending"
    );
    describe_gauge!(
        "asynqueue_queue_memory_bytes",
        Unit::Bytes,
        "Approximate memory usage of the queue"
    );
    describe_gauge!(
        "asynqueue_queue_paused",
        "1 while the queue is paused, otherwise 0"
    );
    describe_counter!(
        "asynqueue_queue_processed_total",
        "Attempts that succeeded or failed, on all servers"
    );
    describe_counter!(
        "asynqueue_queue_failed_total",
        "Attempts that failed, on all servers"
    );
    describe_counter!(
        "asynqueue_queue_lost_total",
        "Attempts that were lost with their server, on all servers"
    );
    describe_counter!(
        "asynqueue_queue_repaired_total",
        "Inconsistent tasks, locks and leases that the broker repaired"
    );
    describe_counter!(
        "asynqueue_queue_trimmed_total",
        "Archived tasks deleted by all servers because of an archive limit"
    );
    describe_gauge!(
        "asynqueue_queue_archived_max",
        "Maximum number of archived tasks in the queue; beyond it, the oldest are deleted"
    );
    describe_gauge!("asynqueue_queues", "Number of queues");
    describe_gauge!("asynqueue_fleet_servers", "Running servers");
    describe_gauge!(
        "asynqueue_fleet_slots",
        "Tasks that all servers together can run concurrently"
    );
    describe_gauge!("asynqueue_fleet_running", "Tasks running on all servers");
    describe_gauge!(
        "asynqueue_fleet_abandoned",
        "Handlers on all servers still running after their worker slot was freed"
    );
}
