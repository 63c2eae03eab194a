//! The number of tasks that an action on all matching tasks would change, before it starts.

use asynqueue_core::{
    inspector::{ActionKind, ActionTarget, Filter, Matching},
    task::{Name, TaskState},
};
use axum::extract::{Path, Query};
use maud::{Markup, html};
use serde::Deserialize;

use crate::web::{
    changes::inapplicable,
    links::encoded,
    reading::queue::COUNTED,
    request::{Failed, View, state_of},
    show,
};

/// The action, and the tasks that it applies to.
#[derive(Debug, Deserialize)]
pub(crate) struct Params {
    state: String,
    #[serde(default)]
    filter: String,
    r#do: String,
    /// The destination queue of a move.
    #[serde(default)]
    to: String,
}

pub(crate) async fn show(
    view: View,
    Path(queue): Path<String>,
    Query(params): Query<Params>,
) -> Result<Markup, Failed> {
    let queue = view.known_queue(&queue).await?;
    let (state, kind): (_, ActionKind) = (state_of(&params.state)?, params.r#do.parse()?);
    let target = ActionTarget::Task(state);
    if !kind.applies_to(target) {
        let to = format!("{state} tasks");
        return Err(inapplicable(kind, &to, |kind| kind.applies_to(target)));
    }
    let filter: Filter = params.filter.parse()?;
    let counted = view
        .inspector
        .count(&queue, state, &filter, COUNTED)
        .await?;
    let list = view.links.state(&queue, state);
    let list = format!("{list}&filter={}", encoded(&params.filter));
    let label = kind.label(target);
    Ok(view.page(
        &format!("{label} all matching tasks"),
        html! {
            p.crumbs {
                a href=(view.links.queue(&queue)) { (queue) } " › "
                a href=(view.links.state(&queue, state)) { (state.as_str()) }
            }
            p { b { (in_words(&counted, state)) } }
            @if !filter.is_empty() { p { "Filter: " code { (filter) } } }
            @if kind == ActionKind::Move { p { "Destination: " b { (params.to) } } }
            p.note { "Tasks that arrive before the action starts are included if they match." }
            @if !view.may_change() || counted.found == 0 && counted.is_complete {
                p { a href=(list) { "Back to the list" } }
            } @else {
                (form(&view, &queue, &params, state, kind, &counted, &list))
            }
        },
    ))
}

/// Sends the order to start.
fn form(
    view: &View,
    queue: &Name,
    params: &Params,
    state: TaskState,
    kind: ActionKind,
    counted: &Matching,
    list: &str,
) -> Markup {
    let label = kind.label(ActionTarget::Task(state));
    html! {
        form.actions method="post" action=(format!("{}/tasks", view.links.queue(queue))) {
            input type="hidden" name="state" value=(params.state);
            input type="hidden" name="filter" value=(params.filter);
            input type="hidden" name="which" value="all";
            input type="hidden" name="to" value=(params.to);
            button.danger[kind.destroys()] name="do" value=(kind) {
                (label)
                @if counted.is_complete {
                    " " (show::number(counted.found)) @if counted.found == 1 { " task" } @else { " tasks" }
                } @else { " all that match" }
            }
            a href=(list) { "Back to the list" }
        }
    }
}

/// The number of matching tasks.
fn in_words(counted: &Matching, state: TaskState) -> String {
    let found = show::number(counted.found);
    match (counted.is_complete, counted.found) {
        (true, 0) => format!("No {state} tasks match."),
        (true, 1) => format!("1 {state} task matches."),
        (true, _) => format!("{found} {state} tasks match."),
        (false, _) => {
            let (scanned, total) = (show::number(counted.scanned), show::number(counted.total));
            format!(
                "At least {found} {state} tasks match: {found} of the first {scanned}. All {total} will be scanned."
            )
        }
    }
}
