//! One queue: its tasks by state, a filter in the address, and what to do with those that are chosen.

mod list;

use asynqueue_core::{
    inspector::{ActionKind, ActionTarget, Filter, QueueInfo},
    task::{Name, TaskState},
};
use axum::extract::{Path, Query};
use maud::{Markup, html};
use serde::Deserialize;

use self::list::list;
pub(super) use self::list::offered;
use super::{button, charts::of_day, no_default};
use crate::web::{
    links::encoded,
    reading::queue::{Contents, Order, Part},
    request::{Failed, View, state_of},
    show,
};

/// Which part of a queue is asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    state: Option<String>,
    #[serde(default)]
    filter: String,
    #[serde(default)]
    sort: String,
    after: Option<String>,
    did: Option<String>,
}

pub(crate) async fn show(
    view: View,
    Path(queue): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Markup, Failed> {
    let queue = Name::from(queue);
    let order = Order::of(&asked.sort).map_err(Failed::BadRequest)?;
    let state = asked.state.as_deref().map(state_of).transpose()?;
    let (filter, invalid) = match asked.filter.parse() {
        Ok(filter) => (filter, None),
        Err(invalid) => (Filter::default(), Some(invalid)),
    };
    let part = Part {
        state,
        filter,
        order,
        after: asked.after.clone(),
    };
    let live = &view.shared.live;
    let key = (queue.clone(), part.clone());
    let read = Contents::read(&view.inspector, &queue, part, live.servers());
    let contents = live.read(&live.contents, key, read).await?;
    let content = html! {
        (view.notice(asked.did.as_deref()))
        (figures(&view, &contents.info))
        (tabs(&view, &contents))
        (form(&asked, &contents, order))
        @match &invalid {
            Some(invalid) => { p.error role="alert" { (invalid) } },
            None => { (list(&view, &contents, &asked.filter, order)) },
        }
        (of_day(&view, contents.history.iter()))
        p { a href=(format!("{}?span=week&queue={}", view.links.page("charts"), encoded(&queue))) { "Longer ago" } }
    };
    Ok(view.page(queue.as_str(), content))
}

fn figures(view: &View, info: &QueueInfo) -> Markup {
    html! {
        div.bar data-queue=(info.name) {
            span { "oldest pending " b data-figure="latency" { (show::wait(info.stats.latency)) } }
            span { "today " b data-figure="succeeded" { (show::number(info.today.succeeded)) } " done, "
                b data-figure="failed" { (show::number(info.today.failed)) } " failed" }
            @if let Some(bytes) = info.memory { span { (show::bytes(bytes)) } }
            @if let Some(place) = &info.place { span { (place) } }
            @if info.stats.repaired > 0 { span { (show::number(info.stats.repaired)) " put right after the storage had lost something" } }
            @if info.stats.archive.trimmed() > 0 { span { (show::number(info.stats.archive.trimmed())) " deleted from the archive for its limits" } }
            @if info.stats.paused { span.paused { "paused" } }
            @if view.may_change() { (queue_actions(view, info)) }
        }
    }
}

fn tabs(view: &View, contents: &Contents) -> Markup {
    let info = &contents.info;
    html! {
        nav.tabs aria-label="States" data-queue=(info.name) {
            @for state in TaskState::ALL {
                a href=(view.links.state(&info.name, state)) aria-current=[(state == contents.state).then_some("page")] {
                    (state.as_str()) " "
                    span.count data-figure=(state.as_str()) { (show::number(info.stats.count(state))) }
                }
            }
        }
    }
}

fn form(asked: &Asked, contents: &Contents, order: Order) -> Markup {
    html! {
        form.filter {
            input type="hidden" name="state" value=(contents.state.as_str());
            input type="search" name="filter" value=(asked.filter) list="terms" aria-label="Filter"
                placeholder="event=email:* error~timeout age>1h payload~text id=… header.tenant=acme";
            datalist id="terms" { @for term in contents.terms() { option value=(term) data-term=(term) {} } }
            select name="sort" aria-label="Order" {
                @for one in Order::ALL { option value=(one.name()) selected[one == order] { (one.title()) } }
            }
            button { "Filter" }
        }
    }
}

fn queue_actions(view: &View, info: &QueueInfo) -> Markup {
    let action = format!("{}/act", view.links.queue(&info.name));
    html! {
        form.actions method="post" action=(action) {
            (no_default())
            (button(if info.stats.paused { ActionKind::Resume } else { ActionKind::Pause }, ActionTarget::Queue))
            @if info.stats.total() == 0 {
                button.danger name="do" value=(ActionKind::Delete) data-confirm="Delete this empty queue?" { "Delete" }
            } @else {
                details.danger {
                    summary { "Delete with its tasks" }
                    input name="name" autocomplete="off" aria-label=(format!("Type {} to delete it with its tasks", info.name)) placeholder=(info.name);
                    button.danger name="do" value=(ActionKind::Delete) { "Delete all" }
                }
            }
        }
    }
}
