//! One queue: its tasks by state, with a filter in the URL and actions on selected tasks.

pub(in crate::web) mod confirm;
mod headers;
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
use super::{button, charts::of_day, no_default, reason, why};
use crate::web::{
    figures::lost,
    links::encoded,
    reading::queue::{Contents, Order, Part},
    request::{Failed, View, state_of},
    show,
};

/// The part of a queue to show.
#[derive(Debug, Deserialize)]
pub(crate) struct Params {
    state: Option<String>,
    #[serde(default)]
    filter: String,
    #[serde(default)]
    sort: String,
    after: Option<String>,
    /// Headers to show as columns, separated by commas.
    #[serde(default)]
    columns: String,
    /// The header whose values are counted.
    #[serde(default)]
    by: String,
    did: Option<String>,
}

pub(crate) async fn show(
    view: View,
    Path(queue): Path<String>,
    Query(params): Query<Params>,
) -> Result<Markup, Failed> {
    let queue = Name::from(queue);
    let order = Order::of(&params.sort).map_err(Failed::BadRequest)?;
    let state = params.state.as_deref().map(state_of).transpose()?;
    let (filter, invalid) = match params.filter.parse() {
        Ok(filter) => (filter, None),
        Err(invalid) => (Filter::default(), Some(invalid)),
    };
    let part = Part {
        state,
        filter: filter.clone(),
        order,
        after: params.after.clone(),
    };
    let live = &view.shared.live;
    let key = (queue.clone(), part.clone());
    let read = Contents::read(&view.inspector, &queue, part, live.servers());
    let contents = live.read(&live.contents, key, read).await?;
    if is_blank(&contents.info) {
        view.known_queue(&queue).await?;
    }
    let by_header = match &invalid {
        Some(_) => html! {},
        None => headers::block(&view, &params, &contents, &filter).await?,
    };
    let content = html! {
        (view.notice(params.did.as_deref()))
        (figures(&view, &contents.info))
        (why::of_queue(&view, &contents.wait, &contents.servers))
        (tabs(&view, &contents, &params))
        (form(&params, &contents, order))
        @match &invalid {
            Some(invalid) => { p.error role="alert" { (invalid) } },
            None => { (list(&view, &contents, &params, order)) },
        }
        (by_header)
        (of_day(&view, Some(&queue), contents.history.iter()))
        p { a href=(format!("{}?queue={}", view.links.page("audit"), encoded(&queue))) { "Changes" } }
    };
    Ok(view.page(queue.as_str(), content))
}

/// Whether all figures are those of a queue that does not exist.
fn is_blank(info: &QueueInfo) -> bool {
    let stats = &info.stats;
    stats.total() == 0 && stats.succeeded == 0 && stats.failed == 0 && stats.lost == 0
}

fn figures(view: &View, info: &QueueInfo) -> Markup {
    html! {
        div.bar data-queue=(info.name) {
            span { "Latency " b data-figure="latency" { (show::wait(info.stats.latency)) } }
            span { "Today (UTC) " b data-figure="succeeded" { (show::number(info.today.succeeded)) } " succeeded, "
                b data-figure="failed" { (show::number(info.today.failed)) } " failed" span data-figure="lost" { (lost(info.today.lost)) } }
            @if let Some(bytes) = info.memory { span { (show::bytes(bytes)) } }
            @if let Some(place) = &info.place { span { (place) } }
            @if info.stats.repaired > 0 { span { (show::number(info.stats.repaired)) " repairs after data loss in the store" } }
            @if info.stats.archive.trimmed() > 0 { span { (show::number(info.stats.archive.trimmed())) " trimmed from the archive" } }
            @if info.stats.paused { span.paused { "paused" } }
            @if view.may_change() { (queue_actions(view, info)) }
        }
    }
}

fn tabs(view: &View, contents: &Contents, params: &Params) -> Markup {
    let info = &contents.info;
    let link = |state| {
        let list = view.links.state(&info.name, state);
        match params.columns.as_str() {
            "" => list,
            columns => format!("{list}&columns={}", encoded(columns)),
        }
    };
    html! {
        nav.tabs aria-label="States" data-queue=(info.name) {
            @for state in TaskState::ALL {
                a href=(link(state)) aria-current=[(state == contents.state).then_some("page")] {
                    (state.as_str()) " "
                    span.count data-figure=(state.as_str()) { (show::number(info.stats.count(state))) }
                }
            }
        }
    }
}

fn form(params: &Params, contents: &Contents, order: Order) -> Markup {
    html! {
        form.filter {
            input type="hidden" name="state" value=(contents.state.as_str());
            input type="search" name="filter" value=(params.filter) list="terms" aria-label="Filter"
                placeholder="event=email:* error~timeout age>1h text~1000123 id=… header.tenant=acme";
            datalist id="terms" { @for term in contents.terms() { option value=(term) data-term=(term) {} } }
            select name="sort" aria-label="Sort order" {
                @for one in Order::ALL { option value=(one.name()) selected[one == order] { (one.title(contents.state)) } }
            }
            (headers::choice(params, contents))
            button { "Filter" }
        }
    }
}

fn queue_actions(view: &View, info: &QueueInfo) -> Markup {
    let action = format!("{}/act", view.links.queue(&info.name));
    html! {
        form.actions method="post" action=(action) {
            (no_default())
            @if !info.stats.paused { (reason()) }
            (button(if info.stats.paused { ActionKind::Resume } else { ActionKind::Pause }, ActionTarget::Queue))
            @if info.stats.total() == 0 {
                button.danger name="do" value=(ActionKind::Delete) data-confirm="Delete this empty queue?" { "Delete" }
            } @else {
                details.danger {
                    summary { "Delete queue and tasks" }
                    input name="name" autocomplete="off" aria-label=(format!("Type {} to confirm", info.name)) placeholder=(info.name);
                    button.danger name="do" value=(ActionKind::Delete) { "Delete queue and tasks" }
                }
            }
        }
    }
}
