//! One file a page, and what all have in common.

pub(super) mod find;
pub(super) mod overview;
pub(super) mod queue;
pub(super) mod schedules;
pub(super) mod servers;
pub(super) mod storage;
pub(super) mod subscriptions;
pub(super) mod task;

use std::{convert::Infallible, sync::Arc};

use asynqueue_core::{BrokerError, Inspector, TaskState, Timestamp, scheduler::ScheduleError};
use axum::{
    extract::{FromRequestParts, OriginalUri},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use maud::{DOCTYPE, Markup, html};

use super::{Role, Shared, User, links::Links};

/// What each page is made with.
pub(super) struct View {
    pub(super) links: Links,
    pub(super) user: User,
    pub(super) inspector: Inspector,
    pub(super) now: Timestamp,
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
        let inspector = shared.inspector.clone().acting_as(&*user.name);
        Ok(Self {
            links: Links::new(shared.base.as_deref(), &asked, &parts.uri),
            now: inspector.broker().now(),
            user,
            inspector,
        })
    }
}

impl View {
    pub(super) fn may_change(&self) -> bool {
        self.user.role == Role::Admin
    }

    /// A whole page around its content.
    pub(super) fn page(&self, title: &str, content: Markup) -> Markup {
        let places = [
            ("", "Queues"),
            ("schedules", "Schedules"),
            ("servers", "Servers"),
            ("subscriptions", "Subscriptions"),
            ("storage", "Storage"),
        ];
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) " · asynqueue" }
                    // Or browsers look for one above the path that this is mounted at.
                    link rel="icon" href="data:,";
                    link rel="stylesheet" href=(self.links.page("style.css"));
                    script src=(self.links.page("monitor.js")) defer {}
                }
                body data-live=(self.links.page("live")) {
                    header {
                        a.brand href=(self.links.page("")) { "asynqueue" }
                        nav aria-label="Pages" {
                            @for (path, name) in places {
                                a href=(self.links.page(path)) { (name) }
                            }
                        }
                        form.find action=(self.links.page("find")) role="search" {
                            input type="search" name="id" placeholder="Task id" aria-label="Find a task by its id";
                        }
                        span.user title=(if self.may_change() { "may change things" } else { "may look only" }) {
                            (self.user.name)
                        }
                    }
                    main { h1 { (title) } (content) }
                    (keys())
                }
            }
        }
    }
}

/// What keys do, shown by one of them.
fn keys() -> Markup {
    let keys = [
        ("/", "to the filter, or to the search for a task"),
        ("j", "down a list"),
        ("k", "up a list"),
        ("?", "this help; Escape closes it"),
    ];
    html! {
        dialog id="keys" aria-labelledby="keys-title" {
            h2 id="keys-title" { "Keys" }
            dl.facts { @for (key, does) in keys { dt { kbd { (key) } } dd { (does) } } }
            form method="dialog" { button { "Close" } }
        }
    }
}

/// What goes wrong, as a page.
#[derive(Debug)]
pub(super) enum Failed {
    Broker(BrokerError),
    NotFound(String),
    BadRequest(String),
}

impl From<BrokerError> for Failed {
    fn from(error: BrokerError) -> Self {
        Self::Broker(error)
    }
}

impl From<ScheduleError> for Failed {
    fn from(error: ScheduleError) -> Self {
        match error {
            ScheduleError::Unknown { .. } => Self::NotFound(error.to_string()),
            ScheduleError::Broker(error) => Self::Broker(error),
            other => Self::BadRequest(other.to_string()),
        }
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let (status, title, message) = match self {
            Self::Broker(error) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The broker does not answer",
                error.to_string(),
            ),
            Self::NotFound(what) => (StatusCode::NOT_FOUND, "Not found", what),
            Self::BadRequest(why) => (StatusCode::BAD_REQUEST, "That makes no sense", why),
        };
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head { meta charset="utf-8"; title { (title) } link rel="icon" href="data:,"; }
                body { h1 { (title) } p { (message) } }
            }
        };
        (status, page).into_response()
    }
}

pub(super) async fn not_found() -> Failed {
    Failed::NotFound("There is no such page.".into())
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
