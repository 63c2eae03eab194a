//! Listening for signals, concurrently with leasing: a slow subscription does not delay it.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::Fuse};

use super::Shared;
use crate::broker::{BrokerError, Signal, Signals};

/// How long to wait after a failed subscription.
pub(super) const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// How soon to subscribe again when the signals end.
pub(super) const AFTER_END: Duration = Duration::from_millis(50);

/// The signals of a server's queues, or the subscription under way.
pub(super) struct Listener {
    shared: Arc<Shared>,
    signals: Option<Fuse<Signals>>,
    subscribing: Option<BoxFuture<'static, Result<Signals, BrokerError>>>,
}

/// An event of the subscription.
pub(super) enum ListenerEvent {
    Signal(Signal),
    /// Signals arrive from now on.
    Started,
    /// No more signals arrive.
    Ended,
    Failed(BrokerError),
}

impl Listener {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            signals: None,
            subscribing: None,
        }
    }

    /// Subscribes, unless that is done or under way.
    pub(super) fn start(&mut self) {
        if self.signals.is_none() && self.subscribing.is_none() {
            let shared = Arc::clone(&self.shared);
            let subscribing = async move { shared.broker.signals(&shared.queue_names).await };
            self.subscribing = Some(subscribing.boxed());
        }
    }

    /// Whether signals arrive.
    pub(super) fn is_on(&self) -> bool {
        self.signals.is_some()
    }

    /// The next event; never completes without a subscription. Cancel safe: nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> ListenerEvent {
        if let Some(subscribing) = &mut self.subscribing {
            let result = subscribing.await;
            self.subscribing = None;
            return match result {
                Ok(signals) => {
                    self.signals = Some(signals.fuse());
                    self.check_missed();
                    ListenerEvent::Started
                }
                Err(error) => ListenerEvent::Failed(error),
            };
        }
        let Some(signals) = &mut self.signals else {
            return std::future::pending().await;
        };
        match signals.next().await {
            Some(signal) => ListenerEvent::Signal(signal),
            None => {
                self.signals = None;
                ListenerEvent::Ended
            }
        }
    }

    /// The next event, if there is one already.
    pub(super) fn next_now(&mut self) -> Option<ListenerEvent> {
        self.next().now_or_never()
    }

    /// Looks for scheduled and cancelled tasks whose signals came before the subscription.
    fn check_missed(&self) {
        self.shared.due.notify_one();
        self.shared.group_due.notify_one();
        self.shared.missed_signals.notify_one();
    }
}
