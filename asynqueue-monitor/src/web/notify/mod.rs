//! Notifications: a request to each webhook when a problem appears, and when it clears.
//!
//! A task of the monitor looks at the problems every [`INTERVAL`], with or without viewers. Each webhook has its own
//! [`Ledger`] of what it was sent, so that one that does not respond delays no other and misses nothing.

mod client;
mod ledger;
mod message;

use std::{
    fmt,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use asynqueue_core::task::Timestamp;
use futures_util::future::join_all;
use hyper::Uri;
use tokio::runtime::Handle;

use self::{
    client::Client,
    ledger::Ledger,
    message::{Format, Origin, message},
};
use super::{
    Shared,
    attention::Concern,
    changes::audit,
    request::{Failed, View},
};
use crate::ServeError;

/// How often the problems are checked.
const INTERVAL: Duration = Duration::from_secs(10);

/// The webhooks of a monitor.
#[derive(Clone, Debug, Default)]
pub(super) struct Webhooks(Vec<Webhook>);

/// Where notifications are sent.
#[derive(Clone)]
pub(super) struct Webhook {
    url: Uri,
    format: Format,
    client: Client,
}

impl Webhooks {
    /// Adds a webhook with requests in JSON.
    pub(super) fn add_json(&mut self, url: &str) -> Result<(), ServeError> {
        self.add(url, Format::Json)
    }

    /// Adds a webhook with requests as Slack expects them.
    pub(super) fn add_slack(&mut self, url: &str) -> Result<(), ServeError> {
        self.add(url, Format::Slack)
    }

    fn add(&mut self, url: &str, format: Format) -> Result<(), ServeError> {
        let invalid = |reason: String| ServeError::Webhook { reason };
        let url: Uri = url
            .parse()
            .map_err(|error| invalid(format!("the URL is invalid: {error}")))?;
        if !matches!(url.scheme_str(), Some("http" | "https")) {
            let scheme = url.scheme_str().unwrap_or_default();
            return Err(invalid(format!("the scheme is `{scheme}`")));
        }
        let client = Client::new().map_err(|error| invalid(error.to_string()))?;
        self.0.push(Webhook {
            url,
            format,
            client,
        });
        Ok(())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Webhook> {
        self.0.iter()
    }

    pub(super) fn get(&self, place: usize) -> Option<&Webhook> {
        self.0.get(place)
    }

    /// Sends notifications until the monitor is dropped. Without webhooks, or outside of a runtime, it does nothing.
    pub(super) fn start(&self, shared: &Arc<Shared>) {
        if let (false, Ok(runtime)) = (self.0.is_empty(), Handle::try_current()) {
            let origin = Origin::of(shared);
            runtime.spawn(watch(self.0.clone(), origin, Arc::downgrade(shared)));
        }
    }
}

impl Webhook {
    /// The host, without the path: the path of a webhook is often its password.
    pub(super) fn host(&self) -> &str {
        self.url.host().unwrap_or_default()
    }

    /// The format, for people.
    pub(super) fn format(&self) -> &'static str {
        self.format.name()
    }

    /// Sends a test notification.
    ///
    /// # Errors
    ///
    /// Why it was not accepted, without the URL.
    async fn test(&self, origin: &Origin, now: Timestamp) -> Result<(), String> {
        let body = self.format.test(origin, now);
        self.client.post(&self.url, body).await
    }
}

/// The path and the query may contain a password.
impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("host", &self.host())
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

/// Sends a test notification to the webhook at a place in the list. Returns its host, or why it was not accepted.
///
/// # Errors
///
/// If there is no webhook at this place.
pub(super) async fn test(view: &View, place: usize) -> Result<Result<String, String>, Failed> {
    let webhook = view.shared.webhooks.get(place);
    let missing = || Failed::NotFound(format!("webhook {place} does not exist"));
    let webhook = webhook.ok_or_else(missing)?;
    let tested = webhook.test(&Origin::of(&view.shared), view.now).await;
    let did = tested.as_ref().err().map_or("accepted", |error| error);
    audit(view, "test webhook", webhook.host(), did);
    Ok(tested.map(|()| webhook.host().to_owned()))
}

async fn watch(webhooks: Vec<Webhook>, origin: Origin, shared: Weak<Shared>) {
    let origin = &origin;
    let mut all: Vec<_> = webhooks
        .into_iter()
        .map(|webhook| (webhook, Ledger::default()))
        .collect();
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        // While the broker does not respond, nothing is known about the problems.
        let Ok(snapshot) = shared.live.now().await else {
            continue;
        };
        let now = shared.inspector.now();
        drop(shared);
        let concerns: Vec<_> = snapshot.concerns.iter().filter(is_announced).collect();
        let notified = all
            .iter_mut()
            .map(|(webhook, ledger)| notify(webhook, ledger, origin, &concerns, now));
        join_all(notified).await;
    }
}

/// A growing backlog is only detected while a page is open, so it would appear and clear with the viewers.
fn is_announced(concern: &&Concern) -> bool {
    concern.kind != "growing_queue"
}

/// Sends what has changed since the last notification, if it is time.
async fn notify(
    webhook: &Webhook,
    ledger: &mut Ledger,
    origin: &Origin,
    concerns: &[&Concern],
    now: Timestamp,
) {
    let Some(changes) = ledger.changes(concerns, Instant::now()) else {
        return;
    };
    let body = message(webhook.format, origin, &changes, now);
    match webhook.client.post(&webhook.url, body).await {
        Ok(()) => {
            if ledger.sent(changes) {
                tracing::info!(host = webhook.host(), "notifications are accepted again");
            }
        }
        Err(error) => {
            if ledger.refused() {
                tracing::warn!(host = webhook.host(), %error, "a notification was not accepted; it is sent again each minute");
            }
        }
    }
}
