//! The results, as JSON and as a table.

use std::{fmt::Write, time::Duration};

use serde::Serialize;

use super::Options;

/// The figures. A figure that the broker does not have is null.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    #[serde(skip)]
    pub(super) storage_name: &'static str,
    pub(super) enqueue_per_s: f64,
    pub(super) bulk_enqueue_per_s: f64,
    pub(super) process_per_s: f64,
    pub(super) idle_latency_ms: Latency,
    pub(super) load_latency_ms: Latency,
    pub(super) storage_cpu_us: StorageCpu,
    pub(super) worker_cpu_us: Option<f64>,
    pub(super) bytes_per_waiting_task: Option<f64>,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
}

/// From `enqueue` to the handler's first line, in milliseconds.
#[derive(Debug, Default, Serialize)]
pub(super) struct Latency {
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
    pub(super) max: Option<f64>,
}

/// CPU time of the processes of the storage, in microseconds per task.
#[derive(Debug, Default, Serialize)]
pub(super) struct StorageCpu {
    pub(super) enqueue: Option<f64>,
    pub(super) bulk_enqueue: Option<f64>,
    pub(super) process: Option<f64>,
}

impl Latency {
    /// The percentiles of sorted samples.
    pub(super) fn of(samples: &[Duration]) -> Self {
        let at = |percent: usize| {
            let place = samples.len().checked_sub(1)? * percent / 100;
            Some(samples[place].as_secs_f64() * 1e3)
        };
        Self {
            p50: at(50),
            p99: at(99),
            max: at(100),
        }
    }

    fn row(&self) -> String {
        let part =
            |value: Option<f64>| value.map_or("–".into(), |value| format!("{value:.3} ms"));
        format!(
            "p50 {}   p99 {}   max {}",
            part(self.p50),
            part(self.p99),
            part(self.max)
        )
    }
}

impl Report {
    pub(super) fn table(&self, options: &Options) -> String {
        let (storage, cpu) = (self.storage_name, &self.storage_cpu_us);
        let rate = |rate: f64, cpu: Option<f64>| {
            let cpu = cpu.map_or(String::new(), |cpu| {
                format!("   {storage} CPU {cpu:.2} µs/task")
            });
            format!("{:>9} tasks/s{cpu}", thousands(rate))
        };
        let load = match options.load_rate {
            Some(_) => "latency, loaded",
            None => "latency, half loaded",
        };
        let mut rows = vec![
            ("enqueued one by one", rate(self.enqueue_per_s, cpu.enqueue)),
            (
                "enqueued in bulk",
                rate(self.bulk_enqueue_per_s, cpu.bulk_enqueue),
            ),
            ("processed", rate(self.process_per_s, cpu.process)),
            ("latency, idle", self.idle_latency_ms.row()),
            (load, self.load_latency_ms.row()),
        ];
        if let Some(own) = self.worker_cpu_us {
            rows.push(("worker CPU", format!("{own:>9.2} µs/task")));
        }
        if let Some(bytes) = self.bytes_per_waiting_task {
            rows.push(("stored", format!("{bytes:>9.0} bytes per pending task")));
        }
        rows.push((
            "lost / duplicated",
            format!("{:>9} / {}", self.lost, self.duplicated),
        ));
        let mut table = format!(
            "{} tasks per phase, {}-byte payloads, concurrency {}, {} producers, batches of {}\n\n",
            options.tasks,
            options.payload_bytes,
            options.concurrency,
            options.producers,
            options.batch
        );
        for (name, value) in rows {
            let _ = writeln!(table, "{name:<22}{value}");
        }
        table
    }
}

/// Formats a number with thousands separators.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_in_groups_of_three() {
        for (number, text) in [
            (0.0, "0"),
            (999.6, "1,000"),
            (123_456.0, "123,456"),
            (1e6, "1,000,000"),
        ] {
            assert_eq!(thousands(number), text);
        }
    }

    #[test]
    fn percentiles_of_few_samples_are_among_them() {
        let samples: Vec<_> = (1..=10).map(Duration::from_millis).collect();
        let latency = Latency::of(&samples);
        assert_eq!(
            (latency.p50, latency.p99, latency.max),
            (Some(5.0), Some(9.0), Some(10.0))
        );
        assert_eq!(Latency::of(&[]).p50, None);
    }
}
