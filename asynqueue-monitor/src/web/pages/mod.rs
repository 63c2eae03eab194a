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

use asynqueue_core::{
    inspector::Inspector,
    task::{Name, TaskState, Timestamp},
};
use axum::{
    extract::{FromRequestParts, OriginalUri},
    http::request::Parts,
};
use maud::{Markup, html};

pub(super) use self::failed::{Failed, explained, not_found};
use super::{
    Role, Shared, User, access::is_own, links::Links, live::version_of_minute, settings::Settings,
    show,
};

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
    /// No page of another site has led here.
    is_asked_by_us: bool,
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
            is_asked_by_us: is_own(&parts.headers),
        })
    }
}

impl View {
    pub(super) fn may_change(&self) -> bool {
        self.user.role == Role::Admin
    }

    /// A queue that there is.
    pub(super) async fn known_queue(&self, queue: String) -> Result<Name, Failed> {
        let queue = Name::from(queue);
        let queues = self.inspector.broker().queues().await?;
        let missing = || Failed::NotFound(format!("there is no queue `{queue}`"));
        queues
            .contains(&queue)
            .then(|| queue.clone())
            .ok_or_else(missing)
    }

    /// Says what an action has come to, after the redirect; not to whom a link of another site has brought here.
    fn notice(&self, text: Option<&str>) -> Markup {
        html! { @if let Some(text) = text.filter(|_| self.is_asked_by_us) { p.notice role="status" { (text) } } }
    }

    /// A time as the distance from now, with the time itself for who points at it.
    pub(super) fn time(&self, time: Timestamp) -> Markup {
        html! { time datetime=(show::utc(time)) title=(self.date(time)) { (show::distance(time, self.now)) } }
    }

    /// A time in the zone that was chosen.
    fn date(&self, time: Timestamp) -> String {
        let date = self.settings.date(time);
        let date = date.map(|date| date.format("%Y-%m-%d %H:%M:%S%.3f %Z").to_string());
        date.unwrap_or_else(|| show::utc(time))
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

/// A part of a page that is written anew each minute while one looks.
fn each_minute(view: &View, id: &str, content: Markup) -> Markup {
    html! { div id=(id) data-fresh="minute" data-version=(version_of_minute(view.now)) { (content) } }
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
