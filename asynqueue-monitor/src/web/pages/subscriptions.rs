//! The subscriptions.

use maud::{Markup, html};

use crate::web::request::{Failed, View};

pub(crate) async fn show(view: View) -> Result<Markup, Failed> {
    let subscriptions = view.inspector.subscriptions().await?;
    Ok(view.page("Subscriptions", html! {
        @if subscriptions.is_empty() {
            p.empty { "No subscriptions." }
        } @else {
            div.scroll { table {
                thead { tr { th scope="col" { "Event" } th scope="col" { "Subscriber" } th scope="col" { "Queue" } th scope="col" { "Since" } } }
                tbody { @for subscription in &subscriptions {
                    tr {
                        td { (subscription.event) }
                        td { (subscription.name) }
                        td { a href=(view.links.queue(&subscription.queue())) { (subscription.queue()) } }
                        td { (view.time(subscription.since)) }
                    }
                } }
            } }
        }
    }))
}
