//! Reporting this server to the fleet.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::Shared;
use crate::{
    broker::{RunningTask, ServerInfo},
    task::{Name, TaskId, Timestamp},
};

/// How often a server reports itself.
const INTERVAL: Duration = Duration::from_secs(5);

/// How long the fleet remembers a server after its last report, so that users can see that it was lost.
const TTL: Duration = Duration::from_secs(3600);

impl Shared {
    /// Reports this server until it stops, then leaves the fleet.
    pub(super) async fn report_presence(self: Arc<Self>) {
        let started = self.broker.now();
        self.quiet.ignore_before(started);
        loop {
            match self.broker.beat(self.info(started), TTL).await {
                Ok(Some(request)) => self.follow_request(request),
                Ok(None) => {}
                // Nothing depends on it, and the next report follows soon.
                Err(error) => {
                    tracing::debug!(%error, "could not report the server to the fleet")
                }
            }
            // A change is reported immediately, so that users can see that it was applied.
            let changed = tokio::time::timeout(INTERVAL, self.quiet.changed.notified());
            if !self.runs_until(changed).await {
                break;
            }
        }
        if let Err(error) = self.broker.leave(&self.worker).await {
            tracing::debug!(%error, "could not remove the server from the fleet");
        }
    }

    fn info(&self, started: Timestamp) -> ServerInfo {
        let (now, here) = (self.broker.now(), Instant::now());
        let mut running = Vec::new();
        self.slots.each(|job| {
            let context = &job.context;
            running.push(RunningTask {
                task: context.task_ref(),
                event: context.event().clone(),
                attempt: context.attempt(),
                started: context.started(),
                deadline: now + context.end().saturating_duration_since(here),
            });
        });
        let busy = running.len();
        running.sort_by_key(|task| task.started);
        running.truncate(ServerInfo::MAX_RUNNING);
        ServerInfo {
            name: self.worker.clone(),
            host: host(),
            pid: std::process::id(),
            started,
            seen: now,
            queues: self.weights.clone(),
            strict: self.strict,
            events: self.registry.events().iter().cloned().collect(),
            concurrency: self.settings.concurrency,
            busy,
            running,
            abandoned: self.slots.abandoned(),
            finished: self
                .counters
                .finished
                .load(std::sync::atomic::Ordering::Relaxed),
            stopping: self.stopping.is_cancelled(),
            quiet: self.quiet.is_on(),
            unhandled: self.unhandled.away(now),
            version: self.version.clone(),
            queue_use: self.queue_use(),
            limits: self.limits(now),
        }
    }
}

/// A server name made of the host name, the process id and a random suffix.
pub(super) fn worker_name() -> Name {
    let random = TaskId::generate();
    let (_, random) = random.as_str().split_at(16);
    format!("{}:{}:{random}", host(), std::process::id()).into()
}

/// The name of this machine.
pub(crate) fn host() -> String {
    let host = hostname::get().unwrap_or_default();
    match host.to_string_lossy().trim() {
        "" => "worker".into(),
        host => host.into(),
    }
}
