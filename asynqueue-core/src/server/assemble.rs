//! Making a server of what it was told.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::AtomicBool},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    Counters, Server, ServerBuilder, ServerError, Shared,
    admission::Unhandled,
    builder::{SHORTEST_INTERVAL, SHORTEST_LEASE},
    inbox::Inbox,
    presence::worker_name,
    queues::QueueSet,
    running::Slots,
    settle::Outbox,
};
#[cfg(feature = "metrics")]
use crate::layer::MetricsLayer;
use crate::{
    broker::Subscription,
    layer::{BoxProcess, TraceLayer},
    metrics::ServerMeter,
    publish::{deliverer, outbox},
    registry::{ProcessWrapper, Registration, Registry},
    task::Name,
};

impl ServerBuilder {
    /// Checks the settings and makes the server.
    ///
    /// # Errors
    ///
    /// When a setting makes no sense, no process is mounted or two are for one event, or a registered process cannot
    /// be built from the state.
    pub fn build(mut self) -> Result<Server, ServerError> {
        self.check_settings()?;
        if self.registered {
            for registration in Registration::all() {
                let event = registration.event();
                let process = registration.build(&self.state);
                self.processes
                    .push(process.map_err(|source| ServerError::State { event, source })?);
            }
        }
        self.check_aggregators()?;
        let queues = self.queue_set()?;
        let subscribers = (self.subscribers.iter())
            .map(|(name, process)| (process.event().clone(), name.clone()))
            .collect();
        let registry = self.registry()?;
        let settings = self.settings;
        let shared = Shared {
            broker: self.broker,
            worker: self.name.unwrap_or_else(worker_name),
            registry,
            state: self.state,
            queue_names: queues.names(),
            weights: queues.weights(),
            strict: self.strict,
            aggregators: self.aggregators,
            subscribers,
            subscribed: AtomicBool::new(false),
            inbox: Inbox::new(queues.len()),
            unhandled: Unhandled::default(),
            slots: Slots::default(),
            outbox: Outbox::default(),
            due: Notify::new(),
            group_due: Notify::new(),
            unheard: Notify::new(),
            stopping: CancellationToken::new(),
            stopped: CancellationToken::new(),
            counters: Counters::default(),
            meter: ServerMeter::default(),
            settings,
        };
        Ok(Server {
            shared: Arc::new(shared),
            queues,
        })
    }

    /// Makes [`build`](Self::build) fail, for a monitor was asked for.
    #[cfg(feature = "config")]
    pub(crate) fn with_monitor(mut self) -> Self {
        self.monitor = true;
        self
    }

    fn check_settings(&mut self) -> Result<(), ServerError> {
        if self.monitor {
            return Err(ServerError::NoMonitor);
        }
        let settings = &mut self.settings;
        settings.max_abandoned = self.max_abandoned.unwrap_or(settings.concurrency);
        let too_short = |setting, value| Err(ServerError::TooShort { setting, value });
        if settings.concurrency == 0 {
            return Err(ServerError::ZeroConcurrency);
        }
        if settings.lease < SHORTEST_LEASE {
            return too_short("lease", settings.lease);
        }
        if settings.poll_interval < SHORTEST_INTERVAL {
            return too_short("poll_interval", settings.poll_interval);
        }
        match &settings.health_check {
            Some((interval, _)) if *interval < SHORTEST_INTERVAL => {
                too_short("health_check", *interval)
            }
            _ => Ok(()),
        }
    }

    fn check_aggregators(&mut self) -> Result<(), ServerError> {
        if let Some((event, into)) = self.aggregated_again.take() {
            return Err(ServerError::AggregatedAgain { event, into });
        }
        let mut events = HashSet::new();
        for aggregator in &self.aggregators {
            if !events.insert(&aggregator.event) {
                let event = aggregator.event.clone();
                return Err(ServerError::DuplicateAggregator { event });
            }
        }
        Ok(())
    }

    /// Each subscriber has a queue of its own, and shares the outbox of the event with the others.
    fn subscribed_queues(&self) -> Result<Vec<Name>, ServerError> {
        let mut queues = Vec::new();
        for (subscriber, process) in &self.subscribers {
            let event = process.event();
            if subscriber.is_empty() {
                let event = event.clone();
                return Err(ServerError::UnnamedSubscriber { event });
            }
            let queue = Subscription::queue_of(event, subscriber);
            if queues.contains(&queue) {
                let (event, subscriber) = (event.clone(), subscriber.clone());
                return Err(ServerError::DuplicateSubscriber { event, subscriber });
            }
            let outbox = outbox(event);
            if !queues.contains(&outbox) {
                queues.push(outbox);
            }
            queues.push(queue);
        }
        Ok(queues)
    }

    fn queue_set(&mut self) -> Result<QueueSet, ServerError> {
        if self.queues.is_empty() {
            let of_processes = self.processes.iter().map(|process| process.queue().clone());
            let of_groups = (self.aggregators.iter()).map(|aggregator| aggregator.queue.clone());
            let mut named: Vec<_> = of_processes.chain(of_groups).collect();
            named.sort();
            named.dedup();
            self.queues = named.into_iter().map(|name| (name, 1)).collect();
        }
        for queue in self.subscribed_queues()? {
            if !self.queues.iter().any(|(name, _)| *name == queue) {
                self.queues.push((queue, 1));
            }
        }
        for process in &self.processes {
            if !self.queues.iter().any(|(name, _)| name == process.queue()) {
                tracing::warn!(event = %process.event(), queue = %process.queue(),
                    "tasks of this event go to a queue that this server does not take from");
            }
        }
        QueueSet::new(
            std::mem::take(&mut self.queues),
            &self.queue_limits,
            self.strict,
        )
    }

    fn registry(&mut self) -> Result<Registry, ServerError> {
        let mut registry = Registry::default();
        // The first layer added is the outermost, so it goes on last.
        let layers = &self.layers;
        let layered = |process: ProcessWrapper| {
            process.map_service(|service| {
                let layers = layers.iter().rev();
                observed(layers.fold(service, |inner, layer| layer(inner)))
            })
        };
        for process in self.processes.drain(..) {
            registry
                .insert(layered(process))
                .map_err(|event| ServerError::DuplicateProcess { event })?;
        }
        for (subscriber, process) in self.subscribers.drain(..) {
            let event = process.event().clone();
            let deliverer = deliverer(Arc::clone(&self.broker));
            registry.insert_for_queue(outbox(&event), event.clone(), observed(deliverer));
            let queue = Subscription::queue_of(&event, &subscriber);
            registry.insert_for_queue(queue, event, layered(process).into_service());
        }
        if registry.is_empty() {
            Err(ServerError::NoProcess)
        } else {
            Ok(registry)
        }
    }
}

/// Puts what tells of attempts around all else.
fn observed(service: BoxProcess) -> BoxProcess {
    #[cfg(feature = "metrics")]
    let service = service.within(&MetricsLayer);
    service.within(&TraceLayer)
}
