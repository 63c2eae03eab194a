//! One file a page, and what all have in common: how they are written. What they show is read elsewhere.

pub(super) mod charts;
mod explained;
pub(super) mod find;
mod frame;
pub(super) mod groups;
pub(super) mod overview;
pub(super) mod queue;
pub(super) mod schedule;
pub(super) mod schedules;
pub(super) mod servers;
pub(super) mod settings;
pub(super) mod storage;
pub(super) mod subscriptions;
pub(super) mod task;
mod timeline;

use asynqueue_core::{
    inspector::{ActionKind, ActionTarget},
    task::Timestamp,
};
use maud::{Markup, html};

pub(super) use self::explained::{explained, not_found};
use super::{request::View, show, version::version_of_minute};

impl View {
    /// Says what an action has come to, after the redirect; not to whom a link of another site has brought here.
    fn notice(&self, text: Option<&str>) -> Markup {
        html! { @if let Some(text) = text.filter(|_| self.is_asked_by_us) { p.notice role="status" { (text) } } }
    }

    /// A time as the distance from now, with the time itself for who points at it.
    fn time(&self, time: Timestamp) -> Markup {
        html! { time datetime=(show::utc(time)) title=(self.date(time)) { (show::distance(time, self.now)) } }
    }

    /// A time in the zone that was chosen.
    fn date(&self, time: Timestamp) -> String {
        let date = self.settings.date(time);
        let date = date.map(|date| date.format("%Y-%m-%d %H:%M:%S%.3f %Z").to_string());
        date.unwrap_or_else(|| show::utc(time))
    }
}

/// A part of a page that is written anew each minute while one looks.
fn each_minute(view: &View, id: &str, content: Markup) -> Markup {
    html! { div id=(id) data-fresh="minute" data-version=(version_of_minute(view.now)) { (content) } }
}

/// Looks for things by a part of their names, and keeps their order.
fn search(what: &str, name: &str, sort: &str) -> Markup {
    html! {
        form.filter {
            @if !sort.is_empty() { input type="hidden" name="sort" value=(sort); }
            input type="search" name="name" value=(name) placeholder=(format!("A part of a {what}'s name")) aria-label=(format!("Show each {what} by name"));
            button { "Show" }
        }
    }
}

/// The button that asks for an action.
fn button(kind: ActionKind, target: ActionTarget) -> Markup {
    let (label, destroys) = (kind.label(target), kind.destroys());
    html! {
        button.danger[destroys] name="do" value=(kind) data-confirm=[destroys.then(|| format!("{label}?"))] { (label) }
    }
}

/// The first button of a form is what the Enter key presses: one that does nothing, where others change something.
fn no_default() -> Markup {
    html! { button hidden disabled {} }
}
