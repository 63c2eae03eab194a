//! The parts that an app runs beside its server.

use std::sync::Arc;

use asynqueue_core::{broker::SharedBroker, outbox::Outbox};

#[cfg(feature = "config")]
use super::AppError;

/// The parts that this program is built with.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) outboxes: Vec<Arc<dyn Outbox>>,
    #[cfg(feature = "scheduler")]
    pub(super) scheduler: SchedulerPart,
    #[cfg(feature = "metrics-exporter")]
    pub(super) metrics: MetricsPart,
    #[cfg(feature = "monitor")]
    pub(super) monitor: MonitorPart,
}

#[cfg(feature = "scheduler")]
#[derive(Debug)]
pub(super) struct SchedulerPart {
    pub(super) builder: asynqueue_core::scheduler::SchedulerBuilder,
    /// Whether code or a configuration has added something to it.
    pub(super) is_used: bool,
    /// Whether a configuration enables or disables it.
    pub(super) enable: Option<bool>,
}

#[cfg(feature = "metrics-exporter")]
#[derive(Debug, Default)]
pub(super) struct MetricsPart {
    pub(super) address: Option<String>,
    pub(super) max_queues: Option<usize>,
}

#[cfg(feature = "monitor")]
#[derive(Debug)]
pub(super) struct MonitorPart {
    pub(super) address: Option<String>,
    pub(super) monitor: asynqueue_monitor::Monitor,
}

impl Parts {
    /// Parts without a configuration.
    pub(super) fn new(broker: &SharedBroker) -> Self {
        // Some programs are built without any part.
        let _ = broker;
        Self {
            outboxes: Vec::new(),
            #[cfg(feature = "scheduler")]
            scheduler: SchedulerPart {
                builder: asynqueue_core::scheduler::Scheduler::builder(broker.clone()),
                is_used: false,
                enable: None,
            },
            #[cfg(feature = "metrics-exporter")]
            metrics: MetricsPart::default(),
            #[cfg(feature = "monitor")]
            monitor: MonitorPart {
                address: None,
                monitor: asynqueue_monitor::Monitor::new(broker.clone()),
            },
        }
    }

    /// Rejects parts that this program is built without, and installs the metrics recorder before the broker is
    /// connected.
    #[cfg(feature = "config")]
    pub(super) fn check(config: &asynqueue_core::config::Config) -> Result<(), AppError> {
        let scheduler = &config.scheduler;
        let has_scheduler = scheduler.enable != Some(false)
            && (scheduler.enable.is_some() || scheduler.file.is_some());
        let has_metrics = config.metrics.address.is_some();
        for (is_set, is_built, key, feature) in [
            (
                has_scheduler,
                cfg!(feature = "scheduler"),
                match scheduler.file {
                    Some(_) => "scheduler.file",
                    None => "scheduler.enable",
                },
                "scheduler",
            ),
            (
                has_metrics,
                cfg!(feature = "metrics-exporter"),
                "metrics.address",
                "metrics-exporter",
            ),
            (
                config.monitoring.is_enabled(),
                cfg!(feature = "monitor"),
                "monitoring.enable",
                "monitor",
            ),
        ] {
            if is_set && !is_built {
                return Err(AppError::Feature { key, feature });
            }
        }
        // Installed now, so that it also counts what happens while the broker connects.
        #[cfg(feature = "metrics-exporter")]
        if has_metrics {
            asynqueue_monitor::metrics::install()?;
        }
        Ok(())
    }

    /// Parts set up from a configuration.
    #[cfg(feature = "config")]
    pub(super) fn of(
        broker: &SharedBroker,
        config: &asynqueue_core::config::Config,
    ) -> Result<Self, AppError> {
        let parts = Self::new(broker);
        // Some programs are built without any part.
        let _ = (&parts, config);
        Ok(Self {
            outboxes: parts.outboxes,
            #[cfg(feature = "scheduler")]
            scheduler: parts.scheduler.configured(&config.scheduler),
            #[cfg(feature = "metrics-exporter")]
            metrics: MetricsPart {
                address: config.metrics.address.clone(),
                max_queues: config.metrics.max_queues,
            },
            #[cfg(feature = "monitor")]
            monitor: parts.monitor.configured(broker, &config.monitoring)?,
        })
    }
}

#[cfg(feature = "scheduler")]
impl SchedulerPart {
    #[cfg(feature = "config")]
    fn configured(mut self, scheduling: &asynqueue_core::config::Scheduling) -> Self {
        self.enable = scheduling.enable;
        if let Some(owner) = &scheduling.owner {
            self.builder = self.builder.owner(owner);
        }
        match &scheduling.file {
            Some(file) => self.change(|scheduler| scheduler.file(file)),
            None => self,
        }
    }

    pub(super) fn change(
        mut self,
        change: impl FnOnce(
            asynqueue_core::scheduler::SchedulerBuilder,
        ) -> asynqueue_core::scheduler::SchedulerBuilder,
    ) -> Self {
        self.builder = change(self.builder);
        self.is_used = true;
        self
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.enable.unwrap_or(self.is_used)
    }
}

#[cfg(feature = "monitor")]
impl MonitorPart {
    #[cfg(feature = "config")]
    fn configured(
        self,
        broker: &SharedBroker,
        monitoring: &asynqueue_core::config::Monitoring,
    ) -> Result<Self, AppError> {
        if !monitoring.is_enabled() {
            return Ok(self);
        }
        Ok(Self {
            address: Some(monitoring.address()),
            monitor: asynqueue_monitor::Monitor::configured(broker.clone(), monitoring)?,
        })
    }
}

#[cfg(all(test, feature = "config"))]
mod tests {
    use asynqueue_core::config::Config;

    use super::*;

    /// Each build of these tests checks its own features: run them with and without `--all-features`.
    #[test]
    fn a_part_that_the_program_is_built_without_is_rejected_with_the_feature_to_enable() {
        for (line, feature, is_built) in [
            (
                "scheduler.file = 'x.toml'",
                "scheduler",
                cfg!(feature = "scheduler"),
            ),
            (
                "scheduler.enable = true",
                "scheduler",
                cfg!(feature = "scheduler"),
            ),
            (
                "metrics.address = '127.0.0.1:0'",
                "metrics-exporter",
                cfg!(feature = "metrics-exporter"),
            ),
            (
                "monitoring.enable = true",
                "monitor",
                cfg!(feature = "monitor"),
            ),
        ] {
            let config = Config::from_toml(&format!("addr = 'memory:'\n{line}"));
            let checked = Parts::check(&config.expect(line));
            assert_eq!(checked.is_ok(), is_built, "{line}");
            if let Err(error) = checked {
                let (key, _) = line.split_once(' ').expect("a key");
                let expected = format!(
                    "`{key}` is set, but this program is built without that part: enable the feature `{feature}` of asynqueue, \
                     or remove the key"
                );
                assert_eq!(error.to_string(), expected);
            }
        }
        for line in [
            "scheduler.enable = false\nscheduler.file = 'x.toml'",
            "monitoring.port = 1",
        ] {
            let config = Config::from_toml(&format!("addr = 'memory:'\n{line}"));
            assert!(Parts::check(&config.expect(line)).is_ok(), "{line}");
        }
    }
}
