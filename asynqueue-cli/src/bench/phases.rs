//! The phases: enqueueing one by one and in bulk, processing, and latency.

use std::{
    io::IsTerminal,
    sync::Arc,
    time::{Duration, Instant},
};

use asynqueue::{
    Context, Payload, Producer, Server, Task, TaskError, layer::BoxError, server::ServerHandle,
};
use tokio::task::JoinSet;

use super::{
    Options,
    ledger::Ledger,
    payload::Noop,
    report::{Latency, Report},
    target::Target,
};

/// The number of tasks that are sent one at a time to an idle server.
const IDLE_SAMPLES: usize = 1_000;

/// How long tasks are sent at a steady rate, to measure latency under load.
const LOAD_TIME: Duration = Duration::from_secs(2);

/// The share of the server's throughput that is sent then.
const LOAD: f64 = 0.5;

/// One run of all phases.
pub(super) struct Bench<'a> {
    options: &'a Options,
    target: &'a Target,
    producer: Producer,
    report: Report,
}

/// The cost of a phase.
struct Cost {
    seconds: f64,
    /// CPU time of the storage's processes, in seconds.
    storage: Option<f64>,
    /// CPU time of this process, in seconds.
    own: Option<f64>,
}

impl<'a> Bench<'a> {
    pub(super) fn new(options: &'a Options, target: &'a Target) -> Self {
        Self {
            options,
            target,
            producer: Producer::new(target.broker.clone()),
            report: Report {
                storage_name: target.storage_name(),
                ..Report::default()
            },
        }
    }

    pub(super) async fn run(mut self) -> Result<Report, BoxError> {
        let tasks = self.options.tasks as usize;
        self.show_progress("enqueueing one by one");
        let first = Arc::new(Ledger::new(tasks, false));
        let cost = self.measure(self.enqueue_one_by_one()).await?;
        self.report.enqueue_per_s = tasks as f64 / cost.seconds;
        self.report.storage_cpu_us.enqueue = cost.storage.map(|cpu| micros(cpu, tasks));
        self.process(&first).await?;

        self.show_progress("enqueueing in bulk");
        let second = Arc::new(Ledger::new(tasks, false));
        let before = self.target.storage_bytes().await?;
        let cost = self.measure(self.enqueue_in_bulk()).await?;
        let after = self.target.storage_bytes().await?;
        self.report.bulk_enqueue_per_s = tasks as f64 / cost.seconds;
        self.report.storage_cpu_us.bulk_enqueue = cost.storage.map(|cpu| micros(cpu, tasks));
        self.report.bytes_per_waiting_task = before
            .zip(after)
            .map(|(before, after)| (after - before) / tasks as f64);

        // The first backlog has warmed everything up.
        self.show_progress("processing");
        let cost = self.process(&second).await?;
        self.report.process_per_s = tasks as f64 / cost.seconds;
        self.report.storage_cpu_us.process = cost.storage.map(|cpu| micros(cpu, tasks));
        self.report.worker_cpu_us = cost.own.map(|cpu| micros(cpu, tasks));

        self.show_progress("measuring the latency of an idle server");
        let idle = Arc::new(Ledger::new(IDLE_SAMPLES, true));
        self.one_at_a_time(&idle).await?;
        self.report.idle_latency_ms = Latency::of(&idle.latencies());
        self.show_progress("measuring the latency of a busy server");
        let busy = Arc::new(Ledger::new(self.steady_count(), true));
        self.steadily(&busy).await?;
        self.report.load_latency_ms = Latency::of(&busy.latencies());

        let ledgers = [first, second, idle, busy];
        self.report.lost = ledgers.iter().map(|ledger| ledger.lost()).sum();
        self.report.duplicated = ledgers.iter().map(|ledger| ledger.duplicated()).sum();
        Ok(self.report)
    }

    fn show_progress(&self, what: &str) {
        if !self.options.json && std::io::stderr().is_terminal() {
            eprintln!("{what}…");
        }
    }

    async fn measure(
        &self,
        phase: impl Future<Output = Result<(), BoxError>>,
    ) -> Result<Cost, BoxError> {
        let (storage, own) = (self.target.storage_cpu().await?, own_cpu());
        let started = Instant::now();
        phase.await?;
        let seconds = started.elapsed().as_secs_f64();
        let own = own.zip(own_cpu()).map(|(before, after)| after - before);
        let storage = storage
            .zip(self.target.storage_cpu().await?)
            .map(|(before, after)| after - before);
        Ok(Cost {
            seconds,
            storage,
            own,
        })
    }

    /// Producers that each wait for a task to be accepted before they send the next.
    async fn enqueue_one_by_one(&self) -> Result<(), BoxError> {
        let (tasks, producers) = (self.options.tasks as usize, self.options.producers as usize);
        let bytes = self.options.payload_bytes;
        let mut running = JoinSet::new();
        for first in 0..producers {
            let producer = self.producer.clone();
            running.spawn(async move {
                for seq in (first..tasks).step_by(producers) {
                    producer.enqueue(Noop::new(seq, bytes)).await?;
                }
                Ok::<_, BoxError>(())
            });
        }
        while let Some(ended) = running.join_next().await {
            ended??;
        }
        Ok(())
    }

    /// The same producers, each of which sends a batch at a time.
    async fn enqueue_in_bulk(&self) -> Result<(), BoxError> {
        let (tasks, batch) = (self.options.tasks as usize, self.options.batch as usize);
        let (producers, bytes) = (self.options.producers as usize, self.options.payload_bytes);
        let mut running = JoinSet::new();
        for first in (0..tasks).step_by(batch).take(producers) {
            let producer = self.producer.clone();
            running.spawn(async move {
                for first in (first..tasks).step_by(batch * producers) {
                    let seqs = first..(first + batch).min(tasks);
                    let batch = seqs.map(|seq| Noop::new(seq, bytes));
                    for sent in producer.enqueue_many(batch).await {
                        sent?;
                    }
                }
                Ok::<_, BoxError>(())
            });
        }
        while let Some(ended) = running.join_next().await {
            ended??;
        }
        Ok(())
    }

    /// Processes a backlog.
    async fn process(&self, ledger: &Arc<Ledger>) -> Result<Cost, BoxError> {
        let mut server = None;
        let cost = self.measure(async {
            server = Some(self.server(ledger).await?);
            ledger.wait().await;
            Ok(())
        });
        let cost = cost.await?;
        if let Some(server) = server {
            server.shutdown().await?;
        }
        Ok(cost)
    }

    async fn server(&self, ledger: &Arc<Ledger>) -> Result<ServerHandle, BoxError> {
        let ledger = Arc::clone(ledger);
        let handler = move |task: Payload<Noop>, _: Context| {
            ledger.run(task.seq());
            async { Ok::<(), TaskError>(()) }
        };
        let server = Server::builder(self.target.broker.clone())
            .queue(Noop::options().queue.clone(), 1)
            .concurrency(self.options.concurrency as usize)
            .process(handler);
        Ok(server.start().await?)
    }

    /// Sends each task to an idle server.
    async fn one_at_a_time(&self, ledger: &Arc<Ledger>) -> Result<(), BoxError> {
        let server = self.server(ledger).await?;
        for seq in 0..IDLE_SAMPLES {
            // A random pause, so that sending does not fall in step with the server's timers.
            let pause = Duration::from_micros(1_000 + rand::random_range(0..2_000));
            tokio::time::sleep(pause).await;
            ledger.send(seq);
            self.producer
                .enqueue(Noop::new(seq, self.options.payload_bytes))
                .await?;
            ledger.wait_for(seq + 1).await;
        }
        server.shutdown().await?;
        Ok(())
    }

    fn steady_rate(&self) -> f64 {
        let half = self.report.process_per_s * LOAD;
        self.options.load_rate.map_or(half, f64::from)
    }

    fn steady_count(&self) -> usize {
        match self.options.load_seconds {
            Some(seconds) => (self.steady_rate() * f64::from(seconds)) as usize,
            None => {
                let tasks = self.steady_rate() * LOAD_TIME.as_secs_f64();
                (tasks as usize).clamp(1, self.options.tasks as usize)
            }
        }
    }

    /// Sends tasks at a rate that the server can sustain.
    async fn steadily(&self, ledger: &Arc<Ledger>) -> Result<(), BoxError> {
        let server = self.server(ledger).await?;
        let (tasks, producers) = (self.steady_count(), self.options.producers as usize);
        let per_second = self.steady_rate();
        let mut running = JoinSet::new();
        let start = tokio::time::Instant::now();
        for first in 0..producers {
            let (producer, ledger) = (self.producer.clone(), Arc::clone(ledger));
            let bytes = self.options.payload_bytes;
            running.spawn(async move {
                for seq in (first..tasks).step_by(producers) {
                    let due = start + Duration::from_secs_f64(seq as f64 / per_second);
                    tokio::time::sleep_until(due).await;
                    ledger.send(seq);
                    producer.enqueue(Noop::new(seq, bytes)).await?;
                }
                Ok::<_, BoxError>(())
            });
        }
        while let Some(ended) = running.join_next().await {
            ended??;
        }
        ledger.wait().await;
        server.shutdown().await?;
        Ok(())
    }
}

fn micros(seconds: f64, tasks: usize) -> f64 {
    seconds * 1e6 / tasks as f64
}

/// User and system time of this process in seconds: handler, server and producer. From Linux's `/proc`, in ticks of 10 ms.
/// `None` elsewhere.
fn own_cpu() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let after_name = stat.rsplit(')').next()?;
    let ticks = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|n| n.parse::<u64>().ok());
    Some(ticks.sum::<Option<u64>>()? as f64 / 100.0)
}
