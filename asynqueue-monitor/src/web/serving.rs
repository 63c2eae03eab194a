//! The monitor on a separate address.

use std::{fmt, net::SocketAddr};

use axum::{
    Router,
    extract::Request,
    response::Redirect,
    routing::{MethodRouter, get},
};
use tokio::net::ToSocketAddrs;
use tower_service::Service as _;

use super::Monitor;
use crate::{Endpoint, ServeError};

/// Serves a router with the settings of a monitor.
pub(super) async fn serve(
    monitor: &Monitor,
    address: impl ToSocketAddrs + fmt::Display,
    router: Router,
) -> Result<Endpoint, ServeError> {
    let is_guarded = monitor.is_guarded();
    let check = |address: &SocketAddr| match is_guarded || address.ip().is_loopback() {
        true => Ok(()),
        false => Err(ServeError::Unguarded { address: *address }),
    };
    let router = match monitor.path.as_str() {
        "/" => router,
        path => {
            let page = path.to_owned();
            let to_page = get(move || std::future::ready(Redirect::to(&page)));
            let redirects = Router::new().route("/", to_page.clone());
            let redirects = redirects.route(&format!("{path}/"), to_page);
            // Orchestrators find them without the path too.
            let redirects = redirects.route("/livez", forwarded(&router));
            let redirects = redirects.route("/readyz", forwarded(&router));
            redirects.nest(path, router)
        }
    };
    let endpoint = Endpoint::serve(address, check, router).await?;
    let url = format!("http://{}{}", endpoint.address(), monitor.path);
    tracing::info!(%url, "web monitor listening");
    Ok(endpoint)
}

/// A route that passes requests on to another router.
fn forwarded(router: &Router) -> MethodRouter {
    let router = router.clone();
    get(move |request: Request| {
        let mut router = router.clone();
        async move { router.call(request).await }
    })
}
