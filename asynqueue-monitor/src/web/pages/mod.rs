//! One file per page, and their common markup. The data of the pages is read in `reading/`.

pub(super) mod audit;
pub(super) mod charts;
mod errors;
pub(super) mod events;
pub(super) mod failures;
pub(super) mod find;
mod frame;
pub(super) mod groups;
pub(super) mod login;
pub(super) mod outboxes;
pub(super) mod overview;
pub(super) mod queue;
pub(super) mod schedule;
pub(super) mod schedules;
pub(super) mod search;
pub(super) mod servers;
pub(super) mod settings;
mod steps;
pub(super) mod storage;
pub(super) mod subscriptions;
pub(super) mod task;
mod timeline;
#[cfg(feature = "webhooks")]
pub(super) mod webhooks;
mod why;

use asynqueue_core::{
    inspector::{ActionKind, ActionTarget},
    task::Timestamp,
};
use maud::{Markup, html};

pub(super) use self::errors::{not_found, render_errors};
use super::{request::View, show, version::version_of_minute};

impl View {
    /// The outcome of an action, shown after its redirect. Links of other sites cannot put text here.
    fn notice(&self, text: Option<&str>) -> Markup {
        html! { @if let Some(text) = text.filter(|_| self.is_same_origin) { p.notice role="status" { (text) } } }
    }

    /// A time relative to now, with the absolute time as its tooltip.
    fn time(&self, time: Timestamp) -> Markup {
        html! { time datetime=(show::utc(time)) title=(self.date(time)) { (show::distance(time, self.now)) } }
    }

    /// A time of something that may have ended since, as a date that does not tick.
    fn still(&self, time: Timestamp) -> Markup {
        html! { span.date { (self.date(time)) } }
    }

    /// A time, which ticks only if what started or ends then still `lives`.
    fn time_of(&self, time: Timestamp, lives: bool) -> Markup {
        if lives {
            self.time(time)
        } else {
            self.still(time)
        }
    }

    /// A time in the time zone of the viewer.
    fn date(&self, time: Timestamp) -> String {
        let date = self.settings.date(time);
        let date = date.map(|date| date.format("%Y-%m-%d %H:%M:%S%.3f %Z").to_string());
        date.unwrap_or_else(|| show::utc(time))
    }
}

/// A part of a page that the script refreshes each minute.
fn each_minute(view: &View, id: &str, content: Markup) -> Markup {
    html! { div id=(id) data-fresh="minute" data-version=(version_of_minute(view.now)) { (content) } }
}

/// A search form for names, which keeps other parameters of the page.
fn search(what: &str, name: &str, others: &[(&str, &str)]) -> Markup {
    html! {
        form.filter {
            @for (name, value) in others.iter().filter(|(_, value)| !value.is_empty()) { input type="hidden" name=(name) value=(value); }
            input type="search" name="name" value=(name) placeholder=(format!("Part of the {what} name")) aria-label=(format!("Filter by {what} name"));
            button { "Filter" }
        }
    }
}

/// The button of an action. An action that destroys something has to be confirmed.
fn button(kind: ActionKind, target: ActionTarget) -> Markup {
    let (label, destroys) = (kind.label(target), kind.destroys());
    let question = || match target {
        ActionTarget::Task(_) => format!("{label} this task?"),
        _ => format!("{label}?"),
    };
    html! {
        button.danger[destroys] name="do" value=(kind) data-confirm=[destroys.then(question)] { (label) }
    }
}

/// A field for the reason of a pause.
fn reason() -> Markup {
    html! { input name="reason" maxlength="200" autocomplete="off" aria-label="Reason for the pause" placeholder="Reason (optional)"; }
}

/// The Enter key presses the first button of a form. This one does nothing, so that Enter changes nothing.
fn no_default() -> Markup {
    html! { button hidden disabled {} }
}
