//! The webhooks on the page of settings, each with a test.

use axum::{extract::Path, response::Redirect};
use maud::{Markup, html};

use crate::web::{
    links::encoded,
    notify::{Webhooks, test},
    request::{Failed, View},
};

/// The webhooks. Users who may change nothing see them without the buttons.
pub(super) fn section(view: &View) -> Markup {
    let webhooks: &Webhooks = &view.shared.webhooks;
    html! {
        h2 id="webhooks" { "Notifications" }
        @if webhooks.iter().next().is_none() {
            p.note { "No webhooks. Set them when the monitor is started." }
        } @else {
            p.note { "Sent when a problem needs attention, and when it has cleared." }
            ul { @for (place, webhook) in webhooks.iter().enumerate() {
                li {
                    (webhook.format()) ", " code { (webhook.host()) } " "
                    @if view.may_change() {
                        form.inline method="post" action=(view.links.page(&format!("settings/webhooks/{place}"))) {
                            button { "Send a test" }
                        }
                    }
                }
            } }
        }
    }
}

/// Sends a test notification, and shows the outcome on the page of settings.
pub(crate) async fn send_test(view: View, Path(place): Path<usize>) -> Result<Redirect, Failed> {
    let did = match test(&view, place).await? {
        Ok(host) => format!("Test sent to {host}."),
        Err(error) => format!("Test failed: {error}."),
    };
    let page = view.links.page("settings");
    Ok(Redirect::to(&format!(
        "{page}?did={}#webhooks",
        encoded(&did)
    )))
}
