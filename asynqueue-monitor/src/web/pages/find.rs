//! Finding a task by its id.

use axum::{
    extract::Query,
    response::{IntoResponse, Redirect, Response},
};
use maud::html;
use serde::Deserialize;

use crate::web::request::{Failed, View};

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    id: String,
}

/// Goes to the task, or shows those to choose from.
pub(crate) async fn show(view: View, Query(asked): Query<Asked>) -> Result<Response, Failed> {
    let found = view.inspector.find(asked.id.trim()).await?;
    if let [task] = &found[..] {
        return Ok(Redirect::to(&view.links.task(&task.envelope.task_ref())).into_response());
    }
    let page = view.page("Find a task", html! {
        @if found.is_empty() { p.empty { "No queue has a task `" (asked.id) "`." } }
        ul { @for task in &found {
            @let task_ref = task.envelope.task_ref();
            li { a href=(view.links.task(&task_ref)) { (task_ref) } " is " (task.state.as_str()) }
        } }
    });
    Ok(page.into_response())
}
