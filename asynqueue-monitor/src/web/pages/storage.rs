//! The nodes of the store, and the queues on each of them.

use std::time::Duration;

use asynqueue_core::{
    broker::Node,
    task::{Name, Timestamp},
};
use maud::{Markup, html};

use super::each_minute;
use crate::web::{
    request::{Failed, View},
    show,
};

/// The maximum number of queues that are listed with their location.
const PLACES: usize = 1_000;

pub(crate) async fn show(view: View) -> Result<Markup, Failed> {
    let nodes = view.inspector.nodes().await?;
    let queues = view.inspector.queue_names().await?;
    let content = html! {
        div.scroll { table {
            thead { tr {
                th scope="col" { "Address" } th scope="col" { "Role" } th scope="col" { "Version" }
                th.number scope="col" { "Memory" } th scope="col" { "Slots" }
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
        @for node in nodes.iter().filter(|node| !node.info.is_empty()) { (node_info(&view, node)) }
    };
    Ok(view.page("Storage", each_minute(&view, "storage", content)))
}

/// The details that a node reports, under their original names.
fn node_info(view: &View, node: &Node) -> Markup {
    html! {
        section {
            h2 { (node.address) }
            dl.node-info { @for (name, value) in &node.info {
                div { dt { code { (name) } } dd { (detail(view, name, value)) } }
            } }
        }
    }
}

/// A detail with its unit, which the names of details imply. Texts and fractions stay as they are.
fn detail(view: &View, name: &str, value: &str) -> Markup {
    let Ok(number) = value.parse::<u64>() else {
        return html! { (value) };
    };
    let seconds = Duration::from_secs(number);
    html! {
        @if name == "maxmemory" && number == 0 { "no limit" }
        @else if name.contains("memory") || name.contains("bytes") { (show::bytes(number)) }
        @else if name.ends_with("_seconds_ago") { (show::duration(seconds)) " ago" }
        @else if name.ends_with("_seconds") { (show::duration(seconds)) }
        @else if name.ends_with("_time") { (view.time(Timestamp::from_millis(number.saturating_mul(1_000)))) }
        @else { (show::number(number)) }
    }
}

/// The location of each queue, if the store distributes queues.
fn places(view: &View, nodes: &[Node], queues: &[Name]) -> Markup {
    let places: Vec<_> = queues
        .iter()
        .filter_map(|queue| Some((queue, view.inspector.place(queue)?)))
        .collect();
    html! {
        @if !places.is_empty() {
            h2 { "Queue placement" }
            @if places.len() > PLACES { p.note { "Only the first " (show::number(PLACES as u64)) " of " (show::number(places.len() as u64)) " queues are listed. The page of each queue also shows its location." } }
            div.scroll { table {
                thead { tr { th scope="col" { "Queue" } th scope="col" { "Location" } th scope="col" { "Node" } } }
                tbody { @for (queue, place) in places.into_iter().take(PLACES) {
                    tr {
                        th scope="row" { a href=(view.links.queue(queue)) { (queue) } }
                        td { (place) }
                        td { (owner(nodes, &place).unwrap_or("none: no node serves this slot")) }
                    }
                } }
            } }
        }
    }
}

/// The node that serves a slot, according to its details. Replicas list no slots.
fn owner<'a>(nodes: &'a [Node], place: &str) -> Option<&'a str> {
    let slot: u16 = place.strip_prefix("slot ")?.parse().ok()?;
    let has = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let bounds = first.parse().ok().zip(last.parse().ok());
        bounds.is_some_and(|(first, last): (u16, u16)| (first..=last).contains(&slot))
    };
    let serves = |node: &&Node| {
        node.detail("slots")
            .is_some_and(|slots| slots.split(", ").any(has))
    };
    nodes.iter().find(serves).map(|node| node.address.as_str())
}
