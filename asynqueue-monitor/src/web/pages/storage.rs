//! The servers that the storage consists of.

use asynqueue_core::{
    broker::{Node, NodeRole},
    task::Name,
};
use maud::{Markup, html};

use super::{Failed, View, each_minute};
use crate::web::show;

/// How many queues are shown with their slots.
const SLOTS: usize = 1_000;

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
                    td { @match node.role { NodeRole::Primary => "primary", NodeRole::Replica => "replica" } }
                    td { (node.version) }
                    td.number { @if let Some(bytes) = node.memory { (show::bytes(bytes)) } }
                    td { @for (first, last) in &node.slots { (first) "–" (last) " " } }
                }
            } }
        } }
        (slots(&view, &nodes, &queues))
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

/// Where each queue is, if storage is divided into slots.
fn slots(view: &View, nodes: &[Node], queues: &[Name]) -> Markup {
    let places: Vec<_> = queues
        .iter()
        .filter_map(|queue| Some((queue, view.inspector.broker().slot(queue)?)))
        .collect();
    let keeper = |slot: u16| {
        let keeps = |node: &&Node| {
            let mut ranges = node.slots.iter();
            node.role == NodeRole::Primary
                && ranges.any(|(first, last)| (*first..=*last).contains(&slot))
        };
        nodes.iter().find(keeps).map(|node| node.address.as_str())
    };
    html! {
        @if !places.is_empty() {
            h2 { "Slots by queue" }
            @if places.len() > SLOTS { p.note { "Of " (places.len()) " queues, the first " (SLOTS) " are shown; the page of a queue tells its slot too." } }
            div.scroll { table {
                thead { tr { th scope="col" { "Queue" } th.number scope="col" { "Slot" } th scope="col" { "Kept by" } } }
                tbody { @for (queue, slot) in places.into_iter().take(SLOTS) {
                    tr {
                        th scope="row" { a href=(view.links.queue(queue)) { (queue) } }
                        td.number { (slot) }
                        td { (keeper(slot).unwrap_or("no node: the cluster is not whole")) }
                    }
                } }
            } }
        }
    }
}
