//! The headers of a list: as columns that the viewer chooses, and their most frequent values.

use std::collections::BTreeSet;

use asynqueue_core::{
    inspector::{Filter, HeaderUse, HeaderUses},
    task::{Name, TaskState},
};
use maud::{Markup, html};

use super::Params;
use crate::web::{
    links::encoded,
    reading::queue::{Contents, TALLIED},
    request::{Failed, View},
    show,
};

/// The maximum number of columns.
const MOST_COLUMNS: usize = 6;

/// The headers to show as columns, from text such as `header.tenant, header.order`.
pub(super) fn columns(text: &str) -> Vec<&str> {
    let names = text.split(',').map(str::trim);
    let names = names.map(|name| name.strip_prefix("header.").unwrap_or(name));
    let mut chosen = Vec::new();
    for name in names.filter(|name| !name.is_empty()) {
        if !chosen.contains(&name) && chosen.len() < MOST_COLUMNS {
            chosen.push(name);
        }
    }
    chosen
}

/// The names of the headers of a list.
pub(super) fn names(contents: &Contents) -> BTreeSet<&str> {
    let tasks = contents.listing.tasks.iter();
    let headers = tasks.flat_map(|task| task.envelope.headers.iter());
    let names = headers.map(|(name, _)| name);
    names
        .filter(|name| !matches!(*name, "traceparent" | "tracestate" | "baggage"))
        .collect()
}

/// The choice of columns, as a part of the filter form.
pub(super) fn choice(params: &Params, contents: &Contents) -> Markup {
    html! {
        details open[!params.columns.is_empty()] {
            summary { "Columns" }
            input name="columns" value=(params.columns) list="headers" autocomplete="off" aria-label="Headers to show as columns"
                placeholder="header.tenant,header.order";
            datalist id="headers" { @for name in names(contents) { option value=(format!("header.{name}")) {} } }
        }
    }
}

/// Links to the most frequent values of each header, and those of the chosen one.
pub(super) async fn block(
    view: &View,
    params: &Params,
    contents: &Contents,
    filter: &Filter,
) -> Result<Markup, Failed> {
    let (queue, state) = (&contents.info.name, contents.state);
    let mut names: BTreeSet<_> = names(contents).into_iter().map(str::to_owned).collect();
    let mut uses = HeaderUses::default();
    let chosen = params.by.trim();
    if !chosen.is_empty() {
        uses = view
            .inspector
            .headers(queue, state, filter, TALLIED)
            .await?;
        names.extend(uses.headers.iter().map(|one| one.name.clone()));
    }
    if names.is_empty() && chosen.is_empty() {
        return Ok(html! {});
    }
    let one = uses.headers.iter().find(|one| one.name == chosen);
    Ok(html! {
        section id="by-header" {
            h2 { "By header" }
            nav.tabs.names aria-label="Headers" {
                @for name in &names {
                    a href=(link(view, params, queue, state, name)) aria-current=[(name == chosen).then_some("page")] { (name) }
                }
            }
            @if let Some(one) = one { (values(view, queue, state, filter, &uses, one)) }
            @else if !chosen.is_empty() { p.empty { "No task has the header " code { (chosen) } "." } }
        }
    })
}

/// The same list, with the values of a header.
fn link(view: &View, params: &Params, queue: &Name, state: TaskState, header: &str) -> String {
    format!(
        "{}&filter={}&sort={}&columns={}&by={}#by-header",
        view.links.state(queue, state),
        encoded(&params.filter),
        encoded(&params.sort),
        encoded(&params.columns),
        encoded(header)
    )
}

fn values(
    view: &View,
    queue: &Name,
    state: TaskState,
    filter: &Filter,
    uses: &HeaderUses,
    one: &HeaderUse,
) -> Markup {
    let list = |value: &str| {
        let filter = filter.clone().header(&*one.name, value).to_string();
        format!(
            "{}&filter={}",
            view.links.state(queue, state),
            encoded(&filter)
        )
    };
    let percent = |count: u64| format!("{} %", (count * 100 + uses.tasks / 2) / uses.tasks.max(1));
    html! {
        p.note {
            @if uses.is_complete { "All " (show::number(uses.scanned)) " " (state.as_str()) " tasks" }
            @else { (show::number(uses.scanned)) " " (state.as_str()) " tasks, half of them from each end of the list" }
            @if !filter.is_empty() { ", " (show::number(uses.tasks)) " of which match" }
            ". " (show::number(one.tasks)) " have this header, with " (show::number(one.distinct))
            @if one.distinct == 1 { " value." } @else { " values." }
        }
        div.scroll {
            table {
                thead { tr { th scope="col" { (one.name) } th.number scope="col" { "Tasks" } th.number scope="col" { "Share" } } }
                tbody { @for (value, count) in &one.values { tr {
                    th scope="row" { a href=(list(value)) { (show::cut(value)) } }
                    td.number { (show::number(*count)) } td.number { (percent(*count)) }
                } } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_named_once_and_bounded() {
        assert_eq!(columns("header.tenant, order,,tenant"), ["tenant", "order"]);
        assert_eq!(columns("a,b,c,d,e,f,g").len(), MOST_COLUMNS);
        assert!(columns(" ").is_empty());
    }
}
