//! Signals, cancelling, pausing, waiting.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use asynqueue_core::{
    Broker, BrokerError, CancelOutcome, Control, Finished, Lease, Name, Progress, Replacement,
    Signal, Signals, TaskId, TaskRef, Timestamp,
};
use futures_util::{StreamExt, future::try_join_all, stream};

use super::{MAX_CHUNK, RedisBroker, lease::member, queue::Queue};
use crate::{link::Message, script};

#[async_trait]
impl Control for RedisBroker {
    async fn signals(&self, queues: &[Name]) -> Result<Signals, BrokerError> {
        self.link().open_or_closed()?;
        let names = queues
            .iter()
            .map(|name| (self.queue(name).keys.events.clone(), name.clone()));
        let names: HashMap<_, _> = names.collect();
        if names.is_empty() {
            return Ok(stream::pending().boxed());
        }
        let channels: Vec<_> = names.keys().cloned().collect();
        let messages = self.link().listen(&channels).await?;
        let listening = self.listens(names.values().cloned());
        let (broker, heard) = (self.clone(), (messages, names, listening));
        let signals = stream::unfold((broker, heard), async |(broker, mut heard)| {
            loop {
                let message = heard.0.recv().await?;
                if let Some(signal) = broker.signal(&heard.1, &message) {
                    return Some((signal, (broker, heard)));
                }
            }
        });
        Ok(signals.boxed())
    }

    async fn cancel(
        &self,
        tasks: &[TaskRef],
        reason: &str,
    ) -> Result<Vec<CancelOutcome>, BrokerError> {
        self.link().open_or_closed()?;
        self.cancel_all(tasks, reason).await
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
            let keys = &queue.keys;
            let mut call =
                script::PAUSE.call(&[&keys.meta, &keys.pending, &keys.urgent, &keys.events]);
            call.arg(self.link().publish_command())
                .arg(if paused { "y" } else { "" });
            call.send(self.link()).await
        };
        try_join_all(queues.iter().map(pause)).await.map(drop)
    }

    async fn delete(&self, tasks: &[TaskRef]) -> Result<Vec<bool>, BrokerError> {
        self.link().open_or_closed()?;
        self.delete_all(tasks).await
    }

    async fn run_now(&self, tasks: &[TaskRef]) -> Result<Vec<bool>, BrokerError> {
        self.link().open_or_closed()?;
        self.run_all(tasks).await
    }

    async fn replace(&self, changes: Vec<Replacement>) -> Result<Vec<bool>, BrokerError> {
        self.link().open_or_closed()?;
        self.replace_all(changes).await
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
        let mut call = script::REPORT.call(&[&queue.keys.active, &queue.keys.progress]);
        for (lease, progress) in progress {
            let bytes = rmp_serde::to_vec_named(progress)
                .map_err(|error| BrokerError::Protocol(error.to_string()))?;
            call.arg(member(lease.token, lease.task.id.as_str()))
                .arg(bytes);
        }
        call.send(self.link()).await.map(drop)
    }
}

impl RedisBroker {
    /// What a message says to those who listen; its part about the upkeep is noted here.
    fn signal(&self, names: &HashMap<String, Name>, message: &Message) -> Option<Signal> {
        let signal = signal(names, message);
        let name = names.get(&message.channel)?;
        match &signal {
            Some(Signal::Due(_, due)) => self.queue(name).upkeep.lock().hear(*due),
            // Its owner has given it up: an owner is wanted at once, as for a task that is due.
            None if message.payload == b"o" => {
                self.note_free(&self.queue(name));
                return Some(Signal::Due(name.clone(), self.now()));
            }
            _ => {}
        }
        signal
    }
}

/// What a message says; none if it is of a later version.
fn signal(names: &HashMap<String, Name>, message: &Message) -> Option<Signal> {
    let queue = names.get(&message.channel)?.clone();
    let text = std::str::from_utf8(&message.payload).ok()?;
    let (kind, rest) = text.split_at_checked(1)?;
    match kind {
        "p" => Some(Signal::Pending(queue)),
        "d" => Some(Signal::Due(
            queue,
            Timestamp::from_millis(rest.parse().ok()?),
        )),
        "c" => Some(Signal::Cancel(TaskRef::new(queue, TaskId::new(rest).ok()?))),
        _ => None,
    }
}
