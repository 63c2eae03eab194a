//! The servers that the storage consists of.

use asynqueue_core::NodeRole;
use maud::{Markup, html};

use super::{Failed, View};
use crate::web::show;

pub(crate) async fn show(view: View) -> Result<Markup, Failed> {
    let nodes = view.inspector.nodes().await?;
    Ok(view.page("Storage", html! {
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
    }))
}
