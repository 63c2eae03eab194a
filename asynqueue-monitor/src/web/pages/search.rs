//! The search over all queues: its progress and its results by queue.

use std::{collections::BTreeMap, sync::Arc};

use asynqueue_core::{
    inspector::Filter,
    task::{Name, TaskState},
};
use axum::{
    Form,
    extract::Query,
    response::{IntoResponse, Redirect, Response},
};
use maud::{Markup, html};
use serde::Deserialize;

use crate::web::{
    links::encoded,
    request::{Failed, View},
    searches::{End, Found, MOST_KEPT, Report, Search, search},
    show,
    version::version,
};

#[derive(Debug, Deserialize)]
pub(crate) struct Params {
    #[serde(default)]
    q: String,
}

/// Shows the search for a text, and starts it if it does not run. One task with this id is shown itself.
pub(crate) async fn show(view: View, Query(params): Query<Params>) -> Result<Response, Failed> {
    let text = params.q.trim();
    let found = match search(&view, text, false).await {
        Ok(found) => found,
        Err(Failed::BadRequest(why)) => {
            let page = view.page(
                "Search",
                html! { (form(text)) p.error role="alert" { (why) } (help()) },
            );
            return Ok(page.into_response());
        }
        Err(error) => return Err(error),
    };
    let Some(found) = found else {
        return Ok(view
            .page("Search", html! { (form(text)) (help()) })
            .into_response());
    };
    let report = found.report();
    if let (Some(End::ExactId), [task]) = (&report.end, &report.kept[..]) {
        return Ok(Redirect::to(&view.links.task(&task.task)).into_response());
    }
    let page = view.page(
        "Search",
        html! {
            (form(text))
            (results(&view, &found, &report))
        },
    );
    Ok(page.into_response())
}

/// A button of the page.
#[derive(Debug, Deserialize)]
pub(crate) struct Button {
    #[serde(default)]
    q: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    r#do: String,
}

/// Stops a search, or starts it again.
pub(crate) async fn act(view: View, Form(button): Form<Button>) -> Result<Redirect, Failed> {
    match button.r#do.as_str() {
        "stop" => {
            let search = view.shared.searches.get(&view.user.name, &button.id);
            let missing =
                || Failed::NotFound("The search does not exist, or ended long ago.".into());
            search.ok_or_else(missing)?.stop();
        }
        "again" => {
            search(&view, &button.q, true).await?;
        }
        other => {
            let why = format!("unknown action `{other}`: expected stop or again");
            return Err(Failed::BadRequest(why));
        }
    }
    let page = format!("search?q={}", encoded(button.q.trim()));
    Ok(Redirect::to(&view.links.page(&page)))
}

fn form(text: &str) -> Markup {
    html! {
        form.filter {
            input type="search" name="q" value=(text) aria-label="Search all queues"
                placeholder="1000123 \"no route\" header.tenant=acme error~timeout";
            button { "Search" }
        }
    }
}

fn help() -> Markup {
    html! {
        p.note {
            "Searches all queues and states. A word or a phrase in quotation marks may be in the ID, event, payload, a header or a failure. "
            "Terms of filters, such as " code { "header.tenant=acme" } " or " code { "age<1h" } ", narrow the search. "
            "Quote text that contains " code { "=" } ", " code { "~" } ", " code { "<" } " or " code { ">" } "."
        }
    }
}

fn results(view: &View, search: &Arc<Search>, report: &Report) -> Markup {
    let is_running = report.end.is_none();
    let failed = matches!(report.end, Some(End::Failed(_)));
    html! {
        div id="search" data-fresh="search" data-version=(version(report.text())) data-running[is_running] {
            form.notice.error[failed] method="post" action=(view.links.page("search")) {
                input type="hidden" name="q" value=(search.text);
                input type="hidden" name="id" value=(search.id);
                span role="status" { (report.text()) }
                @if let Some(ended) = report.ended { span { "Ended " (view.time(view.now - ended.elapsed())) } }
                @if is_running {
                    progress max=(report.total.max(1)) value=(report.scanned) aria-label="Progress of the search" {}
                    button name="do" value="stop" { "Stop" }
                } @else {
                    button name="do" value="again" { "Search again" }
                }
            }
            @if report.end == Some(End::ExactId) {
                p.note { "To search the contents of all tasks for this text, put it in quotation marks." }
            }
            @if report.found as usize > MOST_KEPT {
                p.note { "The first " (show::number(MOST_KEPT as u64)) " results are shown. The counts include the others." }
            }
            @if report.found == 0 && !is_running { p.empty { "No matching tasks." } }
            @for (queue, tasks) in by_queue(report) { (section(view, &search.filter, report, queue, &tasks)) }
        }
    }
}

/// The results of each queue, including queues whose results are not kept.
fn by_queue(report: &Report) -> BTreeMap<&Name, Vec<&Found>> {
    let queues = report.lists.keys().map(|(queue, _)| (queue, Vec::new()));
    let mut found: BTreeMap<_, Vec<_>> = queues.collect();
    for task in &report.kept {
        found.entry(&task.task.queue).or_default().push(task);
    }
    found
}

fn section(
    view: &View,
    filter: &Filter,
    report: &Report,
    queue: &Name,
    tasks: &[&Found],
) -> Markup {
    let states = TaskState::ALL.into_iter().filter_map(|state| {
        let count = report.lists.get(&(queue.clone(), state.as_str()))?;
        let list = view.links.state(queue, state);
        let list = format!("{list}&filter={}", encoded(&filter.to_string()));
        Some((state, *count, list))
    });
    html! {
        section {
            h2 { a href=(view.links.queue(queue)) { (queue) } }
            p { @for (place, (state, count, list)) in states.enumerate() {
                @if place > 0 { ", " }
                a href=(list) { (show::number(count)) " " (state.as_str()) }
            } }
            @if !tasks.is_empty() {
                div.scroll tabindex="0" role="region" aria-label=(format!("Results in {queue}")) { (table(view, tasks)) }
            }
        }
    }
}

fn table(view: &View, tasks: &[&Found]) -> Markup {
    html! {
        table.tasks {
            thead { tr {
                th scope="col" { "Task" } th scope="col" { "Event" } th scope="col" { "State" }
                th scope="col" { "Enqueued" } th scope="col" { "Match" }
            } }
            tbody { @for found in tasks { tr {
                td { a.id href=(view.links.task(&found.task)) { (found.task.id) } }
                td { (found.event) }
                td data-label="State" { (found.state.as_str()) }
                td data-label="Enqueued" { (view.time(found.enqueued_at)) }
                td.payload { code { (found.excerpt) } }
            } } }
        }
    }
}
