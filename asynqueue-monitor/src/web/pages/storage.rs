//! The servers that the storage consists of.

use asynqueue_core::{broker::Node, task::Name};
use maud::{Markup, html};

use super::{Failed, View, each_minute};
use crate::web::show;

/// How many queues are shown with their places.
const PLACES: usize = 1_000;

pub(crate) async fn show(view: View) -> Result<Markup, Failed> {
    let nodes = view.inspector.nodes().await?;
    let queues = view.inspector.broker().queues().await?;
    let content = html! {
        div.scroll { table {
            thead { tr {
                th scope="col" { "Address" } th scope="col" { "Role" } th scope="col" { "Version" }
                th scope="col" { "Memory" } th scope="col" { "Slots" }
            } }
            tbody { @for node in &nodes {
                tr {
                    td { (node.address) }
                    td { (reported(node, "role")) }
                    td { (node.version) }
                    td.number { @if let Some(bytes) = node.memory { (show::bytes(bytes)) } }
                    td { (reported(node, "slots")) }
                }
            } }
        } }
        (places(&view, &queues))
        @for node in nodes.iter().filter(|node| !node.info.is_empty()) { (told(node)) }
    };
    Ok(view.page("Storage", each_minute(&view, "storage", content)))
}

/// One of the things that a server reports of itself; empty if it does not.
fn reported<'a>(node: &'a Node, what: &str) -> &'a str {
    let mut info = node.info.iter();
    let value = info.find_map(|(name, value)| (name == what).then_some(value));
    value.map_or("", String::as_str)
}

/// What a server tells of itself, in its own words.
fn told(node: &Node) -> Markup {
    html! {
        section {
            h2 { (node.address) }
            dl.told { @for (name, value) in &node.info { dt { code { (name) } } dd { (value) } } }
        }
    }
}

/// Where each queue is, if the storage keeps queues in several places.
fn places(view: &View, queues: &[Name]) -> Markup {
    let places: Vec<_> = queues
        .iter()
        .filter_map(|queue| Some((queue, view.inspector.broker().place(queue)?)))
        .collect();
    html! {
        @if !places.is_empty() {
            h2 { "Places of queues" }
            @if places.len() > PLACES { p.note { "Of " (places.len()) " queues, the first " (PLACES) " are shown; the page of a queue shows its place too." } }
            div.scroll { table {
                thead { tr { th scope="col" { "Queue" } th scope="col" { "Place" } } }
                tbody { @for (queue, place) in places.into_iter().take(PLACES) {
                    tr {
                        th scope="row" { a href=(view.links.queue(queue)) { (queue) } }
                        td { (place) }
                    }
                } }
            } }
        }
    }
}
