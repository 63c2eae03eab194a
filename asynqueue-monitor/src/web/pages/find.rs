//! Finding a task by its ID.

use axum::{
    extract::Query,
    response::{IntoResponse, Redirect, Response},
};
use maud::html;
use serde::Deserialize;

use crate::web::request::{Failed, View};

#[derive(Debug, Deserialize)]
pub(crate) struct Params {
    #[serde(default)]
    id: String,
}

/// Redirects to the task, or lists the tasks if several queues have one with this ID.
pub(crate) async fn show(view: View, Query(params): Query<Params>) -> Result<Response, Failed> {
    let found = view.inspector.find(params.id.trim()).await?;
    if let [task] = &found[..] {
        return Ok(Redirect::to(&view.links.task(&task.envelope.task_ref())).into_response());
    }
    let page = view.page("Find task", html! {
        @if found.is_empty() { p.empty { "No queue has a task with ID `" (params.id) "`." } }
        ul { @for task in &found {
            @let task_ref = task.envelope.task_ref();
            li { a href=(view.links.task(&task_ref)) { (task_ref) } " (" (task.state.as_str()) ")" }
        } }
    });
    Ok(page.into_response())
}
