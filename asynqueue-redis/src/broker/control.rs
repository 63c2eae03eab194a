//! Signals, cancelling, pausing, waiting.

use std::sync::Arc;

use async_trait::async_trait;
use asynqueue_core::{
    BrokerError, CancelOutcome, Control, Finished, Lease, Name, Progress, Replacement, Signals,
    TaskRef,
};
use futures_util::future::try_join_all;

use super::{MAX_CHUNK, RedisBroker, lease::member, on_demand, queue::Queue};
use crate::script;

#[async_trait]
impl Control for RedisBroker {
    async fn signals(&self, queues: &[Name]) -> Result<Signals, BrokerError> {
        self.link().open_or_closed()?;
        self.listen_to(queues).await
    }

    async fn pass_on(&self, queue: &Name) -> Result<(), BrokerError> {
        self.link().open_or_closed()?;
        self.pass_wakeup_on(&self.queue(queue)).await
    }

    async fn cancel(
        &self,
        tasks: &[TaskRef],
        reason: &str,
    ) -> Result<Vec<CancelOutcome>, BrokerError> {
        self.link().open_or_closed()?;
        on_demand::cancel(self, tasks, reason).await
    }

    async fn finished(&self, task: &TaskRef) -> Result<Finished, BrokerError> {
        self.link().open_or_closed()?;
        self.wait_for(task).await
    }

    async fn report(&self, progress: Vec<(Lease, Progress)>) -> Result<(), BrokerError> {
        self.link().open_or_closed()?;
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

    async fn set_paused(&self, queues: &[Name], paused: bool) -> Result<(), BrokerError> {
        self.link().open_or_closed()?;
        let pause = async |name: &Name| {
            let queue = self.queue(name);
            let lane = queue.changes.next();
            let args = script::pause::Args {
                not_after: self.script_clock(),
                lane: lane.name(),
                number: lane.number(),
                publish: self.link().publish_command(),
                stop: if paused { "y" } else { "" },
            };
            let call = script::pause::call(&queue.keys, args);
            call.send(self.link()).await.inspect(|_| lane.answered())
        };
        try_join_all(queues.iter().map(pause)).await.map(drop)
    }

    async fn delete(&self, tasks: &[TaskRef]) -> Result<Vec<bool>, BrokerError> {
        self.link().open_or_closed()?;
        on_demand::delete(self, tasks).await
    }

    async fn run_now(&self, tasks: &[TaskRef]) -> Result<Vec<bool>, BrokerError> {
        self.link().open_or_closed()?;
        on_demand::run(self, tasks).await
    }

    async fn replace(&self, changes: Vec<Replacement>) -> Result<Vec<bool>, BrokerError> {
        self.link().open_or_closed()?;
        on_demand::replace(self, changes).await
    }

    async fn delete_queue(&self, queue: &Name, force: bool) -> Result<bool, BrokerError> {
        self.link().open_or_closed()?;
        self.delete_whole(queue, force).await
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        self.link().open_or_closed()?;
        self.command(&redis::cmd("PING")).await.map(drop)
    }

    async fn close(&self) {
        self.release_all().await;
        self.link().close();
    }
}

impl RedisBroker {
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
