//! The installation and the caller.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

use crate::web::{Role, request::View};

/// How this installation is recognized, and what the caller may do.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Installation {
    /// Such as `production`. Null if it has none.
    name: Option<String>,
    /// The title of the monitor.
    title: String,
    /// A hexadecimal color, such as `#b3261e`. Null if it has none.
    color: Option<String>,
    /// The name of the broker, if this monitor has several.
    broker: Option<String>,
    /// All brokers of this monitor, if it has several.
    brokers: Vec<OtherBroker>,
    /// The name of the caller.
    user: String,
    /// `viewer` or `admin`.
    #[schema(example = "viewer")]
    role: &'static str,
}

/// A broker of this monitor.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OtherBroker {
    name: String,
    /// The path of its pages. Its API is below `api`.
    path: String,
}

/// Returns the name, title and color of this installation, and the caller with its role.
#[utoipa::path(get, path = "/api/installation", responses((status = 200, description = "The installation.", body = Installation)))]
pub(super) async fn get_installation(view: View) -> Json<Installation> {
    let (face, switcher) = (&view.shared.face, view.shared.switcher.as_ref());
    let root = view.root();
    let names = switcher
        .into_iter()
        .flat_map(|switcher| switcher.names.iter());
    let brokers = names.map(|name| OtherBroker {
        name: name.clone(),
        path: format!("{}/{name}", root.trim_end_matches('/')),
    });
    Json(Installation {
        name: face.name.clone(),
        title: face.title().to_owned(),
        color: face.color.map(|color| color.to_string()),
        broker: switcher.map(|switcher| switcher.this.clone()),
        brokers: brokers.collect(),
        user: view.user.name.to_string(),
        role: match view.user.role {
            Role::Viewer => "viewer",
            Role::Admin => "admin",
        },
    })
}
