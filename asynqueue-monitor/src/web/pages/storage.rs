//! The servers that the storage consists of.

use asynqueue_core::{broker::Node, task::Name};
use maud::{Markup, html};

use super::each_minute;
use crate::web::{
    request::{Failed, View},
    show,
};

/// How many queues are shown with their places.
const PLACES: usize = 1_000;

pub(crate) async fn show(view: View) -> Result<Markup, Failed> {
    let nodes = view.inspector.nodes().await?;
    let queues = view.inspector.queue_names().await?;
    let content = html! {
        div.scroll { table {
            thead { tr {
                th scope="col" { "Address" } th scope="col" { "Role" } th scope="col" { "Version" }
                th scope="col" { "Memory" } th scope="col" { "Slots" }
            } }
            tbody { @for node in &nodes {
                tr {
                    td { (node.address) }
                    td { (node.detail("role").unwrap_or_default()) }
                    td { (node.version) }
                    td.number { @if let Some(bytes) = node.memory { (show::bytes(bytes)) } }
                    td { (node.detail("slots").unwrap_or_default()) }
                }
            } }
        } }
        (places(&view, &nodes, &queues))
        @for node in nodes.iter().filter(|node| !node.info.is_empty()) { (told(node)) }
    };
    Ok(view.page("Storage", each_minute(&view, "storage", content)))
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

/// Where each queue is, if the storage keeps queues in places of their own.
fn places(view: &View, nodes: &[Node], queues: &[Name]) -> Markup {
    let places: Vec<_> = queues
        .iter()
        .filter_map(|queue| Some((queue, view.inspector.place(queue)?)))
        .collect();
    html! {
        @if !places.is_empty() {
            h2 { "Places of queues" }
            @if places.len() > PLACES { p.note { "The first " (PLACES) " of " (places.len()) " queues are shown. The page of a queue shows its place too." } }
            div.scroll { table {
                thead { tr { th scope="col" { "Queue" } th scope="col" { "Place" } th scope="col" { "Kept by" } } }
                tbody { @for (queue, place) in places.into_iter().take(PLACES) {
                    tr {
                        th scope="row" { a href=(view.links.queue(queue)) { (queue) } }
                        td { (place) }
                        td { (keeper(nodes, &place).unwrap_or("no node: the cluster is not whole")) }
                    }
                } }
            } }
        }
    }
}

/// The node whose details say that it has this slot. Replicas name none.
fn keeper<'a>(nodes: &'a [Node], place: &str) -> Option<&'a str> {
    let slot: u16 = place.strip_prefix("slot ")?.parse().ok()?;
    let has = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let bounds = first.parse().ok().zip(last.parse().ok());
        bounds.is_some_and(|(first, last): (u16, u16)| (first..=last).contains(&slot))
    };
    let keeps = |node: &&Node| {
        node.detail("slots")
            .is_some_and(|slots| slots.split(", ").any(has))
    };
    nodes.iter().find(keeps).map(|node| node.address.as_str())
}
