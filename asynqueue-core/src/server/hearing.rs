//! Listening for signals, beside the work: a broker that takes long over a subscription keeps no server from leasing.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::Fuse};

use super::Shared;
use crate::broker::{BrokerError, Signal, Signals};

/// How long to wait after a subscription that failed.
pub(super) const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// How soon to listen again when signals end.
pub(super) const AFTER_END: Duration = Duration::from_millis(50);

/// The signals of a server's queues, or the subscription to them that is under way.
pub(super) struct Hearing {
    shared: Arc<Shared>,
    signals: Option<Fuse<Signals>>,
    subscribing: Option<BoxFuture<'static, Result<Signals, BrokerError>>>,
}

/// What is new.
pub(super) enum Heard {
    Signal(Signal),
    /// From now on there are signals.
    Began,
    /// There are none any more, or none yet.
    Ended,
    Failed(BrokerError),
}

impl Hearing {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            signals: None,
            subscribing: None,
        }
    }

    /// Subscribes, unless that is done or under way.
    pub(super) fn begin(&mut self) {
        if self.signals.is_none() && self.subscribing.is_none() {
            let shared = Arc::clone(&self.shared);
            let subscribing = async move { shared.broker.signals(&shared.queue_names).await };
            self.subscribing = Some(subscribing.boxed());
        }
    }

    /// Whether there are signals.
    pub(super) fn is_on(&self) -> bool {
        self.signals.is_some()
    }

    /// What is new; it waits for ever where nothing is listened to. Nothing is lost when this is dropped and called again.
    pub(super) async fn next(&mut self) -> Heard {
        if let Some(subscribing) = &mut self.subscribing {
            let answer = subscribing.await;
            self.subscribing = None;
            return match answer {
                Ok(signals) => {
                    self.signals = Some(signals.fuse());
                    self.look_anew();
                    Heard::Began
                }
                Err(error) => Heard::Failed(error),
            };
        }
        let Some(signals) = &mut self.signals else {
            return std::future::pending().await;
        };
        match signals.next().await {
            Some(signal) => Heard::Signal(signal),
            None => {
                self.signals = None;
                Heard::Ended
            }
        }
    }

    /// What is new already.
    pub(super) fn next_now(&mut self) -> Option<Heard> {
        self.next().now_or_never()
    }

    /// Sees to what was signalled before there was anyone to hear it: a task that was scheduled, one that was cancelled.
    fn look_anew(&self) {
        self.shared.due.notify_one();
        self.shared.group_due.notify_one();
        self.shared.unheard.notify_one();
    }
}
