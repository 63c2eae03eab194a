//! What a relay reports to the fleet and to metrics, and the requests that it follows.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::{Outbox, OutboxError, OutboxSize, Which};
use crate::{
    broker::{BrokerError, OutboxAction, OutboxInfo, OutboxRequest, SharedBroker},
    metrics,
    server::host,
    task::{Name, Timestamp},
};

/// How often a relay reports.
const INTERVAL: Duration = Duration::from_secs(5);

/// How long a report is kept without a later one, so that operators find an outbox that nobody relays.
const TTL: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Reports while the relay has the turn.
pub(super) struct Reporter {
    broker: SharedBroker,
    outbox: Arc<dyn Outbox>,
    since: Timestamp,
    next: Instant,
    accepted: u64,
    refused: u64,
    /// The time of the last request that was followed.
    served: Option<Timestamp>,
    /// The call of the broker, beside which entries are relayed.
    calling: Option<BoxFuture<'static, Result<Option<OutboxRequest>, BrokerError>>>,
    request: Option<OutboxRequest>,
}

impl Reporter {
    pub(super) fn new(broker: &SharedBroker, outbox: &Arc<dyn Outbox>) -> Self {
        Self {
            broker: Arc::clone(broker),
            outbox: Arc::clone(outbox),
            since: Timestamp::default(),
            next: Instant::now(),
            accepted: 0,
            refused: 0,
            served: None,
            calling: None,
            request: None,
        }
    }

    /// The relay has taken the turn.
    pub(super) fn begin(&mut self) {
        self.since = self.broker.now();
        self.next = Instant::now();
        (self.accepted, self.refused) = (0, 0);
    }

    /// The relay no longer has the turn.
    pub(super) fn end(&mut self) {
        (self.calling, self.request) = (None, None);
        metrics::outbox_size(self.outbox.name(), OutboxSize::default());
    }

    pub(super) fn count(&mut self, accepted: u64, refused: u64) {
        self.accepted += accepted;
        self.refused += refused;
    }

    /// Whether a report is being sent.
    pub(super) fn is_busy(&self) -> bool {
        self.calling.is_some()
    }

    /// Completes once the report is sent.
    pub(super) async fn next(&mut self) {
        let Some(calling) = &mut self.calling else {
            return;
        };
        let reported = calling.await;
        self.calling = None;
        match reported {
            Ok(request) => self.request = request,
            // Nothing depends on it, and the next report follows soon.
            Err(error) => tracing::debug!(%error, "could not report the outbox to the fleet"),
        }
    }

    /// Follows a request, and starts to report if it is time. Returns when to call this again.
    pub(super) async fn report(
        &mut self,
        id: &Name,
        error: Option<String>,
    ) -> Result<Duration, OutboxError> {
        if let Some(request) = self.request.take() {
            // After an error, the next report returns the request again.
            self.follow(&request.actions).await?;
            self.served = Some(request.at);
            self.next = Instant::now();
        }
        let now = Instant::now();
        if self.is_busy() {
            return Ok(INTERVAL);
        }
        if self.next <= now {
            self.next = now + INTERVAL;
            let info = self.info(id, error).await?;
            let broker = Arc::clone(&self.broker);
            self.calling = Some(Box::pin(
                async move { broker.report_outbox(info, TTL).await },
            ));
        }
        Ok(self.next - now)
    }

    async fn follow(&mut self, actions: &[OutboxAction]) -> Result<(), OutboxError> {
        for action in actions {
            let (action, entries) = match action {
                OutboxAction::RetryAll => ("retry", self.outbox.retry(Which::All).await?),
                OutboxAction::Retry(place) => {
                    ("retry", self.outbox.retry(Which::These(&[*place])).await?)
                }
                OutboxAction::Delete(place) => {
                    ("delete", self.outbox.delete(Which::These(&[*place])).await?)
                }
            };
            let outbox = self.outbox.name();
            tracing::info!(%outbox, action, entries, "the relay changed failed entries on request");
        }
        Ok(())
    }

    async fn info(&mut self, id: &Name, error: Option<String>) -> Result<OutboxInfo, OutboxError> {
        let size = self.outbox.size().await?;
        let entries = match size.failed {
            0 => Vec::new(),
            _ => self.outbox.failed(0, OutboxInfo::MAX_ENTRIES).await?,
        };
        metrics::outbox_size(self.outbox.name(), size);
        let age = size.oldest.map_or(Duration::ZERO, |at| size.now.since(at));
        Ok(OutboxInfo {
            id: id.clone(),
            name: self.outbox.name().clone(),
            host: host(),
            pid: std::process::id(),
            since: self.since,
            seen: self.broker.now(),
            waiting: size.waiting,
            age: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            failed: size.failed,
            entries,
            accepted: self.accepted,
            refused: self.refused,
            error,
            served: self.served,
        })
    }
}
