//! Building a server from its builder.

use std::{
    collections::HashSet,
    future::pending,
    sync::{Arc, atomic::AtomicBool},
};

use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{
    Counters, Server, ServerBuilder, ServerError, Shared,
    admission::Unhandled,
    archived::HookCalls,
    builder::{Beyond, SHORTEST_INTERVAL, SHORTEST_LEASE},
    inbox::Inbox,
    outbox::Outbox,
    presence::worker_name,
    queues::QueueSet,
    quiet::Quiet,
    running::Slots,
    statistics::Statistics,
};
#[cfg(feature = "metrics")]
use crate::layer::MetricsLayer;
use crate::{
    broker::Subscription,
    layer::{BoxProcess, TraceLayer},
    metrics::ServerMeter,
    process::Provided,
    publish::{deliverer, outbox},
    registry::{ProcessWrapper, Registration, Registry},
    task::Name,
};

/// Each slot uses memory, and is checked ten times a second.
pub(crate) const MOST_AT_ONCE: usize = 1_000_000;

impl ServerBuilder {
    /// Validates the settings and builds the server.
    ///
    /// # Errors
    ///
    /// If a setting is invalid, no handler is registered, two handlers have the same event, or a handler needs shared
    /// state that the server does not have.
    pub fn build(mut self) -> Result<Server, ServerError> {
        self.check_settings()?;
        self.add_registered()?;
        self.check_state()?;
        self.check_aggregators()?;
        let queues = self.queue_set()?;
        let subscribers = (self.subscribers.iter())
            .map(|(name, process)| (process.event().clone(), name.clone()))
            .collect();
        let registry = self.registry()?;
        let settings = self.settings;
        let threads = settings.concurrency;
        let provided = Provided {
            state: self.state,
            broker: self.broker.clone(),
        };
        let shared = Shared {
            broker: self.broker,
            worker: self.name.unwrap_or_else(worker_name),
            registry,
            provided: Arc::new(provided),
            queue_names: queues.names(),
            weights: queues.weights(),
            queue_limits: queues.limits(),
            version: self.version,
            strict: self.strict,
            aggregators: self.aggregators,
            subscribers,
            subscribed: AtomicBool::new(false),
            inbox: Inbox::new(queues.len()),
            unhandled: Unhandled::default(),
            slots: Slots::default(),
            blocking: Arc::new(Semaphore::new(threads)),
            outbox: Outbox::default(),
            hook_calls: HookCalls::default(),
            due: Notify::new(),
            group_due: Notify::new(),
            missed_signals: Notify::new(),
            lease_checks: Default::default(),
            quiet: Quiet::default(),
            stopping: CancellationToken::new(),
            stopped: CancellationToken::new(),
            counters: Counters::default(),
            statistics: Statistics::default(),
            meter: ServerMeter::default(),
            settings,
        };
        Ok(Server {
            shared: Arc::new(shared),
            queues,
        })
    }

    fn check_settings(&mut self) -> Result<(), ServerError> {
        if let Some(Beyond { section, key }) = self.beyond {
            return Err(ServerError::NeedsApp { section, key });
        }
        let settings = &mut self.settings;
        settings.max_abandoned = self.max_abandoned.unwrap_or(settings.concurrency);
        let too_short = |setting, value| Err(ServerError::TooShort { setting, value });
        if settings.concurrency == 0 {
            return Err(ServerError::ZeroConcurrency);
        }
        if settings.concurrency > MOST_AT_ONCE {
            let value = settings.concurrency;
            return Err(ServerError::TooConcurrent { value });
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

    fn add_registered(&mut self) -> Result<(), ServerError> {
        if self.registered {
            for registration in Registration::all() {
                let process = registration.build(&self.state).map_err(|source| {
                    let event = Name::from_static(registration.event());
                    ServerError::State { event, source }
                })?;
                self.processes.push(process);
            }
        }
        Ok(())
    }

    /// Checks the state that handlers declare to need.
    fn check_state(&self) -> Result<(), ServerError> {
        let subscribers = self.subscribers.iter().map(|(_, process)| process);
        for process in self.processes.iter().chain(subscribers) {
            let event = process.event().clone();
            (process.check_state(&self.state))
                .map_err(|source| ServerError::State { event, source })?;
        }
        Ok(())
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

    /// Each subscriber has its own queue. The outbox of an event is shared by all its subscribers.
    fn subscribed_queues(&self) -> Result<Vec<Name>, ServerError> {
        let mut queues = Vec::new();
        for (subscriber, process) in &self.subscribers {
            let event = process.event();
            if subscriber.is_empty() {
                let event = event.clone();
                return Err(ServerError::UnnamedSubscriber { event });
            }
            Subscription::check(event, subscriber)?;
            if *event != process.published_as() {
                return Err(ServerError::OtherEvent {
                    subscriber: subscriber.clone(),
                    event: event.clone(),
                    published_as: process.published_as(),
                });
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
                    "tasks of this event go to a queue that this server does not lease from");
            }
        }
        QueueSet::new(
            std::mem::take(&mut self.queues),
            &self.queue_limits,
            self.strict,
        )
    }

    fn registry(&mut self) -> Result<Registry, ServerError> {
        // The first layer added is the outermost, so it is applied last.
        let layers = &self.layers;
        let around = |service| {
            let layers = layers.iter().rev();
            layers.fold(service, |inner, layer| layer(inner))
        };
        let layered =
            |process: ProcessWrapper| process.map_service(|service| observed(around(service)));
        // Hooks also see archived tasks that have no handler.
        let hooks = around(BoxProcess::from_fn(|_| Box::pin(pending())));
        let hooks = hooks.hooks().clone();
        let mut registry = Registry::with_hooks(hooks.clone());
        for process in self.processes.drain(..) {
            registry
                .insert(layered(process))
                .map_err(|event| ServerError::DuplicateProcess { event })?;
        }
        for (subscriber, process) in self.subscribers.drain(..) {
            let event = process.event().clone();
            let deliverer = deliverer(Arc::clone(&self.broker));
            let deliverer = observed(deliverer.with_hooks(hooks.clone()));
            registry.insert_for_queue(outbox(&event), event.clone(), deliverer);
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

/// Adds tracing and metrics as the outermost layers.
fn observed(service: BoxProcess) -> BoxProcess {
    #[cfg(feature = "metrics")]
    let service = service.within(&MetricsLayer);
    service.within(&TraceLayer)
}
