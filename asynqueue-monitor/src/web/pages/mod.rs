//! One file a page, and what all have in common.

pub(super) mod charts;
mod failed;
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

use std::{convert::Infallible, sync::Arc};

use asynqueue_core::{Inspector, TaskState, Timestamp};
use axum::{
    extract::{FromRequestParts, OriginalUri},
    http::request::Parts,
};
use maud::{Markup, html};

pub(super) use self::failed::{Failed, explained, not_found};
use super::{Role, Shared, User, links::Links, settings::Settings, show};

/// How many calls of the broker a page makes at a time.
const AT_A_TIME: usize = 8;

/// What each page is made with.
pub(super) struct View {
    pub(super) links: Links,
    pub(super) user: User,
    pub(super) inspector: Inspector,
    pub(super) now: Timestamp,
    pub(super) settings: Settings,
    pub(super) shared: Arc<Shared>,
    /// The part of the address that names the page.
    place: String,
}

impl FromRequestParts<Arc<Shared>> for View {
    type Rejection = Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        shared: &Arc<Shared>,
    ) -> Result<Self, Infallible> {
        let asked = parts.extensions.get::<OriginalUri>().cloned();
        let asked = asked.unwrap_or_else(|| OriginalUri(parts.uri.clone()));
        // The guard has put someone there, or the request would not have come here.
        let user = parts
            .extensions
            .get::<User>()
            .cloned()
            .unwrap_or_else(|| User {
                name: "nobody".into(),
                role: Role::Viewer,
            });
        let place = parts.uri.path().split('/').nth(1).unwrap_or_default();
        let inspector = shared.inspector.clone().acting_as(&*user.name);
        Ok(Self {
            links: Links::new(shared.base.as_deref(), &asked, &parts.uri),
            now: inspector.broker().now(),
            user,
            inspector,
            settings: Settings::of(&parts.headers),
            shared: Arc::clone(shared),
            place: place.to_owned(),
        })
    }
}

impl View {
    pub(super) fn may_change(&self) -> bool {
        self.user.role == Role::Admin
    }

    /// A time as the distance from now, with the time itself for who points at it.
    pub(super) fn time(&self, time: Timestamp) -> Markup {
        let utc = show::utc(time);
        let date = self.settings.date(time);
        let title = date.map(|date| date.format("%Y-%m-%d %H:%M:%S%.3f %Z").to_string());
        let title = title.as_ref().unwrap_or(&utc);
        html! { time datetime=(utc) title=(title) { (show::distance(time, self.now)) } }
    }
}

/// A state by its name.
pub(super) fn state_of(name: &str) -> Result<TaskState, Failed> {
    let found = TaskState::ALL
        .into_iter()
        .find(|state| state.as_str() == name);
    found.ok_or_else(|| {
        let known: Vec<_> = TaskState::ALL.iter().map(|state| state.as_str()).collect();
        Failed::BadRequest(format!(
            "`{name}` is no state: expected one of {}",
            known.join(", ")
        ))
    })
}

/// Says what an action has come to, after the redirect.
pub(super) fn notice(text: Option<&str>) -> Markup {
    html! { @if let Some(text) = text { p.notice role="status" { (text) } } }
}

/// Looks for things by a part of their names, and keeps their order.
pub(super) fn search(what: &str, name: &str, sort: &str) -> Markup {
    html! {
        form.filter {
            @if !sort.is_empty() { input type="hidden" name="sort" value=(sort); }
            input type="search" name="name" value=(name) placeholder=(format!("A part of a {what}'s name")) aria-label=(format!("Show each {what} by name"));
            button { "Show" }
        }
    }
}
