//! The outboxes, and their failed entries.

use std::time::Duration;

use asynqueue_core::{
    broker::OutboxInfo,
    inspector::{ActionKind, ActionTarget},
    outbox::FailedEntry,
};
use maud::{Markup, html};

use super::{button, each_minute};
use crate::web::{
    request::{Failed, View},
    show,
};

pub(crate) async fn show(view: View) -> Result<Markup, Failed> {
    let outboxes = view.inspector.outboxes().await?;
    let content = html! {
        @if outboxes.is_empty() { p.empty { "No outboxes. A relay reports its outbox every 5 seconds." } }
        @for outbox in &outboxes { (section(&view, outbox)) }
    };
    Ok(view.page("Outboxes", each_minute(&view, "outboxes", content)))
}

fn section(view: &View, outbox: &OutboxInfo) -> Markup {
    let is_lost = outbox.is_lost(view.now);
    html! {
        section {
            h2 { (outbox.name) @if is_lost { " " span.kind { "no relay" } } }
            @if is_lost { p.note { "No relay has reported for a while: start a program that relays this outbox, and check that it reaches the broker." } }
            @if let Some(error) = &outbox.error { p.note { "Entries wait: " (error) } }
            dl.facts {
                dt { "Waiting" } dd { (show::number(outbox.waiting)) " entries" }
                @if outbox.waiting > 0 { dt { "Oldest" } dd { "waiting for " (show::duration(Duration::from_millis(outbox.age))) } }
                dt { "Failed" } dd { (show::number(outbox.failed)) " entries" }
                dt { "Accepted" } dd { (show::number(outbox.accepted)) " tasks since the relay took over" }
                dt { "Refused" } dd { (show::number(outbox.refused)) " tasks since then" }
                dt { "Relay" } dd { (outbox.host) ", PID " (outbox.pid) ", since " (view.time(outbox.since)) }
                dt { "Last report" } dd { (view.time(outbox.seen)) }
                dt { "Id" } dd { code { (outbox.id) } }
            }
            @if !outbox.entries.is_empty() { (failed(view, outbox)) }
        }
    }
}

fn failed(view: &View, outbox: &OutboxInfo) -> Markup {
    html! {
        @if view.may_change() { (form(view, outbox, None, &[ActionKind::Retry])) }
        div.scroll { table {
            thead { tr {
                th scope="col" { "Task" } th scope="col" { "Event" } th scope="col" { "Written" } th scope="col" { "Reason" }
                @if view.may_change() { th scope="col" { "Actions" } }
            } }
            tbody { @for entry in &outbox.entries {
                tr {
                    td { (entry.queue) "/" (entry.id) }
                    td { (entry.event) }
                    td { (view.time(entry.at)) }
                    td { (entry.reason) }
                    @if view.may_change() { td { (form(view, outbox, Some(entry), &[ActionKind::Retry, ActionKind::Delete])) } }
                }
            } }
        } }
        @let more = outbox.failed.saturating_sub(outbox.entries.len() as u64);
        @if more > 0 { p.note { (show::number(more)) " more not shown." } }
    }
}

/// Buttons for one failed entry, or for all.
fn form(
    view: &View,
    outbox: &OutboxInfo,
    entry: Option<&FailedEntry>,
    kinds: &[ActionKind],
) -> Markup {
    html! {
        form.actions method="post" action=(view.links.page("outboxes")) {
            input type="hidden" name="outbox" value=(outbox.id);
            @if let Some(entry) = entry { input type="hidden" name="entry" value=(entry.place); }
            @for kind in kinds {
                @match entry {
                    Some(_) => { (button(*kind, ActionTarget::Outbox)) }
                    None => { button name="do" value=(kind) { "Retry all" } }
                }
            }
        }
    }
}
