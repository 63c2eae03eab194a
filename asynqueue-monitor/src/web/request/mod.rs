//! The context of a request, for pages and the API, and its errors.

mod failed;

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use asynqueue_core::{
    inspector::{Actor, Inspector},
    task::{Name, TaskRef, TaskState, Timestamp},
};
use axum::{
    extract::{ConnectInfo, FromRequestParts, OriginalUri},
    http::request::Parts,
};

pub(super) use self::failed::Failed;
use super::{
    Role, Shared, User,
    access::{SessionEnd, is_same_origin},
    links::Links,
    settings::Settings,
};

/// The context of a request: the user, the settings and access to the broker.
pub(in crate::web) struct View {
    pub(in crate::web) links: Links,
    pub(in crate::web) user: User,
    pub(in crate::web) inspector: Inspector,
    pub(in crate::web) now: Timestamp,
    pub(in crate::web) settings: Settings,
    pub(in crate::web) shared: Arc<Shared>,
    /// The first path segment, which identifies the page.
    pub(in crate::web) place: String,
    /// Whether the request does not come from a page of another site.
    pub(in crate::web) is_same_origin: bool,
    /// Whether the user can log out.
    pub(in crate::web) has_session: bool,
}

impl FromRequestParts<Arc<Shared>> for View {
    type Rejection = Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        shared: &Arc<Shared>,
    ) -> Result<Self, Infallible> {
        let original = parts.extensions.get::<OriginalUri>().cloned();
        let original = original.unwrap_or_else(|| OriginalUri(parts.uri.clone()));
        // The guard always sets the user. The fallback has no permissions.
        let user = parts
            .extensions
            .get::<User>()
            .cloned()
            .unwrap_or_else(|| User {
                name: "nobody".into(),
                role: Role::Viewer,
            });
        let place = parts.uri.path().split('/').nth(1).unwrap_or_default();
        let inspector = shared.inspector.clone().acting_as(actor(&user, parts));
        Ok(Self {
            links: Links::new(shared.base.as_deref(), &original, &parts.uri),
            now: inspector.now(),
            user,
            inspector,
            settings: Settings::of(&parts.headers),
            shared: Arc::clone(shared),
            place: place.to_owned(),
            is_same_origin: is_same_origin(&parts.headers),
            has_session: parts.extensions.get::<SessionEnd>().is_some(),
        })
    }
}

/// The user as the actor of changes, with the address of the connection.
fn actor(user: &User, parts: &Parts) -> Actor {
    let actor = Actor::new(&*user.name);
    match parts.extensions.get::<ConnectInfo<SocketAddr>>() {
        Some(ConnectInfo(address)) => actor.from_address(address.ip().to_string()),
        None => actor,
    }
}

impl View {
    /// The path of the monitor, which is that of all its brokers. It is the path of cookies.
    pub(in crate::web) fn root(&self) -> String {
        let base = self.links.page("");
        match &self.shared.switcher {
            Some(switcher) => switcher.root(&base),
            None => base,
        }
    }

    pub(in crate::web) fn may_change(&self) -> bool {
        self.user.role == Role::Admin
    }

    /// The queue, if it exists.
    pub(in crate::web) async fn known_queue(&self, queue: &str) -> Result<Name, Failed> {
        Ok(self.inspector.known_queue(queue).await?)
    }

    /// The error for a task that does not exist. If its queue does not exist either, it says so.
    pub(in crate::web) async fn missing_task(&self, task: &TaskRef, missing: String) -> Failed {
        match self.known_queue(&task.queue).await {
            Ok(_) => Failed::NotFound(missing),
            Err(error) => error,
        }
    }
}

/// Parses a task state.
pub(in crate::web) fn state_of(name: &str) -> Result<TaskState, Failed> {
    let found = TaskState::ALL
        .into_iter()
        .find(|state| state.as_str() == name);
    found.ok_or_else(|| {
        let known: Vec<_> = TaskState::ALL.iter().map(|state| state.as_str()).collect();
        Failed::BadRequest(format!(
            "unknown state `{name}`: expected one of {}",
            known.join(", ")
        ))
    })
}
