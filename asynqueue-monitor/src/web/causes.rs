//! Causes of failures, and retrying all tasks of one.

use std::sync::Arc;

use asynqueue_core::{
    broker::BrokerError,
    failure::{Cause, Fingerprint},
    inspector::{Action, BulkProgress, Filter, Inspector},
    task::{Name, TaskState},
};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};

use super::{
    changes::words,
    jobs::JobSpec,
    reading,
    request::{Failed, View},
    show,
};

/// A cause that is known: it has failures that are still counted. Its last failure is dated as in the list of causes:
/// its own figures are by the day.
///
/// # Errors
///
/// If the text is not a fingerprint, or the cause is unknown.
pub(super) async fn known_cause(view: &View, text: &str) -> Result<Cause, Failed> {
    let fingerprint: Fingerprint = text
        .parse()
        .map_err(|error| Failed::NotFound(format!("{error}")))?;
    let found = reading::failures::of_cause(&view.inspector, fingerprint).await?;
    let mut cause = found.ok_or_else(|| {
        Failed::NotFound(format!(
            "no failures of the cause `{fingerprint}` are known"
        ))
    })?;
    let recent = view.shared.live.failures().await?;
    let mut rows = recent.causes.iter().map(|row| &row.cause);
    if let Some(row) = rows.find(|row| row.fingerprint == fingerprint) {
        cause.last = cause.last.max(row.last);
    }
    Ok(cause)
}

/// A job that retries all tasks whose last failure has a cause: archived tasks, and tasks that wait for their retry.
pub(super) fn retry_cause(view: &View, cause: &Cause) -> JobSpec {
    let action = Action::Retry;
    let (_, did) = words(action.kind());
    let filter = Filter::default().cause(cause.fingerprint);
    // The waiting tasks first: an archived task that is retried may fail again and wait, while its backoff should last.
    let lists = cause.queues.keys().flat_map(|queue| {
        [
            (queue.clone(), TaskState::Retry, Action::RunNow),
            (queue.clone(), TaskState::Archived, Action::Retry),
        ]
    });
    JobSpec {
        what: format!(
            "Retrying all tasks of {} that failed with {}: {}",
            cause.event,
            cause.kind,
            show::cut(&cause.message)
        ),
        did,
        user: Arc::clone(&view.user.name),
        page: view.links.page(&format!("failures/{}", cause.fingerprint)),
        work: in_turn(view.inspector.clone(), lists.collect(), filter),
    }
}

/// Applies an action to each list, one after the other. The progress is that of all of them.
fn in_turn(
    inspector: Inspector,
    lists: Vec<(Name, TaskState, Action)>,
    filter: Filter,
) -> BoxStream<'static, Result<BulkProgress, BrokerError>> {
    let parts = stream::iter(lists).flat_map(move |(queue, state, action)| {
        let part = inspector.apply_to_all(action, queue, state, filter.clone());
        let start = stream::iter([Ok(None)]);
        start.chain(part.map(|progress| progress.map(Some)))
    });
    // `None` starts a list: what the lists before it have reached is kept.
    let sum = |(before, last): &mut (BulkProgress, BulkProgress), next| {
        let next = match next {
            Ok(None) => {
                *before = added(*before, *last);
                *last = BulkProgress::default();
                Ok(*before)
            }
            Ok(Some(progress)) => {
                *last = progress;
                Ok(added(*before, progress))
            }
            Err(error) => Err(error),
        };
        std::future::ready(Some(next))
    };
    parts
        .scan((BulkProgress::default(), BulkProgress::default()), sum)
        .boxed()
}

fn added(one: BulkProgress, other: BulkProgress) -> BulkProgress {
    BulkProgress::new(
        one.scanned + other.scanned,
        one.done + other.done,
        one.refused + other.refused,
    )
}
