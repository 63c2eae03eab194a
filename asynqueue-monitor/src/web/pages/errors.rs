//! Errors as pages.

use axum::{
    extract::Request,
    http::{HeaderValue, Method, StatusCode, header::REFRESH},
    middleware::Next,
    response::{IntoResponse, Response},
};
use maud::html;

use crate::web::request::{Failed, View};

/// The content of an error page.
#[derive(Clone, Debug)]
struct Problem {
    title: &'static str,
    message: String,
}

/// The status code, and the [`Problem`] that [`render_errors`] turns into a page.
impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let (status, title, message) = match self {
            Self::Broker(error) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Broker unavailable",
                error.to_string(),
            ),
            Self::NotFound(what) => (StatusCode::NOT_FOUND, "Not found", what),
            Self::Conflict(why) => (StatusCode::CONFLICT, "Conflict", why),
            Self::BadRequest(why) => (StatusCode::BAD_REQUEST, "Invalid request", why),
            Self::TooMany(why) => (StatusCode::TOO_MANY_REQUESTS, "Too many jobs", why),
        };
        let mut response = status.into_response();
        let problem = Problem { title, message };
        response.extensions_mut().insert(problem);
        response
    }
}

/// The seconds after which a browser loads a page again for which the broker was away. No script of it is live.
const RELOAD: HeaderValue = HeaderValue::from_static("5");

/// Renders errors as pages with the usual navigation.
pub(in crate::web) async fn render_errors(view: View, request: Request, next: Next) -> Response {
    let is_read = request.method() == Method::GET;
    let mut response = next.run(request).await;
    let Some(Problem { title, message }) = response.extensions_mut().remove() else {
        return response;
    };
    let page = view.page(title, html! { p.error role="alert" { (message) } });
    let mut page = (response.status(), page).into_response();
    if is_read && page.status() == StatusCode::SERVICE_UNAVAILABLE {
        page.headers_mut().insert(REFRESH, RELOAD);
    }
    page
}

pub(in crate::web) async fn not_found() -> Failed {
    Failed::NotFound("This page does not exist.".into())
}
