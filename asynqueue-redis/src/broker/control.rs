//! Pausing queues, and the progress of tasks.

use std::sync::Arc;

use asynqueue_core::{
    broker::{BrokerError, Lease},
    process::Progress,
    task::Name,
};
use futures_util::future::try_join_all;

use super::{MAX_CHUNK, RedisBroker, lease::member, queue::Queue};
use crate::script;

impl RedisBroker {
    /// Stores the latest progress of active tasks.
    pub(super) async fn keep_progress(
        &self,
        progress: Vec<(Lease, Progress)>,
    ) -> Result<(), BrokerError> {
        let of_queue = |queue: Arc<Queue>, progress: Vec<(Lease, Progress)>| async move {
            for chunk in progress.chunks(MAX_CHUNK) {
                self.report_chunk(&queue, chunk).await?;
            }
            Ok(progress)
        };
        self.each_queue(progress, |(lease, _)| &lease.task.queue, of_queue)
            .await?;
        Ok(())
    }

    /// Pauses or resumes queues.
    pub(super) async fn pause_all(
        &self,
        queues: &[Name],
        is_paused: bool,
    ) -> Result<(), BrokerError> {
        let pause = async |name: &Name| {
            let queue = self.queue(name);
            let lane = queue.changes.next();
            let args = script::pause::Args {
                not_after: self.script_clock(),
                lane: lane.name(),
                number: lane.number(),
                publish: self.link().publish_command(),
                stop: if is_paused { "y" } else { "" },
            };
            let call = script::pause::call(&queue.keys, args);
            call.send(self.link()).await.inspect(|_| lane.answered())
        };
        try_join_all(queues.iter().map(pause)).await.map(drop)
    }

    async fn report_chunk(
        &self,
        queue: &Queue,
        progress: &[(Lease, Progress)],
    ) -> Result<(), BrokerError> {
        let not_after = self.script_clock();
        let mut call = script::report::call(&queue.keys, script::report::Args { not_after });
        for (lease, progress) in progress {
            call.row(script::report::Report {
                lease: member(lease.token, lease.task.id.as_str()),
                value: rmp_serde::to_vec_named(progress)
                    .map_err(|error| BrokerError::protocol(error.to_string()).caused_by(error))?,
            });
        }
        call.send(self.link()).await.map(drop)
    }
}
