//! Searches over all queues and states, which run in the background.

use std::sync::Arc;

use axum::{Json, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    error::{ApiError, Body, Path},
    time,
};
use crate::web::{
    request::View,
    searches::{self, End},
};

/// What to search for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "text": "1000123 header.tenant=acme" }))]
pub(super) struct Wanted {
    /// Words, phrases in quotation marks, and terms of filters. All of them have to match.
    text: String,
    /// Starts a new search even if the same one has ended within the last ten minutes.
    #[serde(default)]
    again: bool,
}

/// A search.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Search {
    id: String,
    text: String,
    /// The search as a filter, which lists and jobs accept.
    filter: String,
    /// The progress, in words.
    progress: String,
    /// Whether the search has ended.
    ended: bool,
    /// Whether it ended with an error.
    failed: bool,
    /// How many tasks were scanned. 0 if the text is the ID of a task.
    scanned: u64,
    /// How many tasks there are to scan.
    total: u64,
    /// How many tasks match, including those that `tasks` leaves out.
    found: u64,
    /// How many tasks match, by queue and state.
    lists: Vec<Matches>,
    /// The first 1,000 tasks that match.
    tasks: Vec<Match>,
}

/// The number of matching tasks of a queue in one state.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Matches {
    queue: String,
    state: &'static str,
    found: u64,
}

/// A task that matches.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Match {
    queue: String,
    id: String,
    event: String,
    state: &'static str,
    enqueued_at: String,
    /// The text around the first word, or the start of the last failure or the payload.
    excerpt: String,
}

impl From<&Arc<searches::Search>> for Search {
    fn from(search: &Arc<searches::Search>) -> Self {
        let report = search.report();
        let lists = report.lists.iter().map(|((queue, state), found)| Matches {
            queue: queue.to_string(),
            state,
            found: *found,
        });
        let tasks = report.kept.iter().map(|found| Match {
            queue: found.task.queue.to_string(),
            id: found.task.id.to_string(),
            event: found.event.clone(),
            state: found.state.as_str(),
            enqueued_at: time(found.enqueued_at),
            excerpt: found.excerpt.clone(),
        });
        Self {
            id: search.id.clone(),
            text: search.text.clone(),
            filter: search.filter.to_string(),
            progress: report.text(),
            ended: report.end.is_some(),
            failed: matches!(report.end, Some(End::Failed(_))),
            scanned: report.scanned,
            total: report.total,
            found: report.found,
            lists: lists.collect(),
            tasks: tasks.collect(),
        }
    }
}

/// Searches all queues and states. Returns the search in progress if the user has one for the same text. A text that is
/// the ID of tasks is found without a scan. A search ends when it has not been read for a minute.
#[utoipa::path(post, path = "/api/searches", request_body = Wanted, responses((status = 202, description = "The search.", body = Search)))]
pub(super) async fn start_search(
    view: View,
    Body(wanted): Body<Wanted>,
) -> Result<(StatusCode, Json<Search>), ApiError> {
    let found = searches::search(&view, &wanted.text, wanted.again).await?;
    let empty =
        || ApiError::bad("`text` is empty: expected a word or a term such as `error~timeout`");
    let search = found.ok_or_else(empty)?;
    Ok((StatusCode::ACCEPTED, Json(Search::from(&search))))
}

/// Returns a search of the user with its progress and results.
#[utoipa::path(get, path = "/api/searches/{id}", params(("id" = String, Path, example = "none")), responses((status = 200, description = "The search.", body = Search)))]
pub(super) async fn get_search(
    view: View,
    Path(id): Path<String>,
) -> Result<Json<Search>, ApiError> {
    Ok(Json(Search::from(&known(&view, &id)?)))
}

/// Stops a search of the user. Its results are kept for ten minutes.
#[utoipa::path(delete, path = "/api/searches/{id}", params(("id" = String, Path, example = "none")), responses((status = 202, description = "The search has ended.", body = Search)))]
pub(super) async fn stop_search(
    view: View,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Search>), ApiError> {
    let search = known(&view, &id)?;
    search.stop();
    Ok((StatusCode::ACCEPTED, Json(Search::from(&search))))
}

fn known(view: &View, id: &str) -> Result<Arc<searches::Search>, ApiError> {
    let found = view.shared.searches.get(&view.user.name, id);
    let missing =
        || ApiError::not_found(format!("search `{id}` does not exist, or ended long ago"));
    found.ok_or_else(missing)
}
