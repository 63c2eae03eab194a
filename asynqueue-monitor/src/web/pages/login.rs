//! The form to log in with. Programs use HTTP Basic authentication instead.

use std::sync::Arc;

use axum::{
    Form,
    extract::{Query, Request, State},
    http::{
        HeaderMap, Method, StatusCode,
        header::{ACCEPT, RETRY_AFTER, SET_COOKIE},
    },
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use maud::{Markup, html};
use serde::Deserialize;

use crate::web::{
    Shared,
    access::{Caller, Denied, LoginRequired},
    request::View,
};

/// The fields of the form.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Fields {
    #[serde(default)]
    name: String,
    #[serde(default)]
    password: String,
    /// The page to show after the login, below the path of the monitor.
    #[serde(default)]
    to: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Params {
    /// Whether the user has just logged out.
    ended: Option<String>,
}

/// Shows the form in place of responses that require a login, if the browser shows pages.
pub(in crate::web) async fn offer(
    view: View,
    caller: Caller,
    request: Request,
    next: Next,
) -> Response {
    let accept = request.headers().get(ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok());
    let shows_pages = accept.is_some_and(|accept| accept.contains("text/html"));
    let is_get = *request.method() == Method::GET;
    let to = request.uri().path_and_query().filter(|_| is_get);
    let to = to.map_or_else(String::new, ToString::to_string);
    let is_linked = is_get && is_linked(request.headers());
    let response = next.run(request).await;
    if !shows_pages || response.extensions().get::<LoginRequired>().is_none() {
        return response;
    }
    // Otherwise a user behind a balancer would log in again and again without a reason.
    let problem = match (is_get, caller.has_cookie()) {
        (false, _) => Some("Your session has ended. Nothing was changed."),
        (true, true) => Some(
            "Your session has ended, or another process of the monitor has it. A balancer has to send all requests of a browser to the same process.",
        ),
        (true, false) => None,
    };
    let page = view.login(&to, problem, is_linked);
    let (parts, _) = response.into_parts();
    let mut shown = (parts.status, page).into_response();
    for (name, value) in &parts.headers {
        shown.headers_mut().entry(name).or_insert(value.clone());
    }
    shown
}

/// Whether a link of another site leads to the page. Browsers do not send the cookie of the session then.
fn is_linked(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site");
    site.is_some_and(|site| site.as_bytes() == b"cross-site" || site.as_bytes() == b"same-site")
}

pub(in crate::web) async fn show(
    view: View,
    State(shared): State<Arc<Shared>>,
    Query(params): Query<Params>,
) -> Response {
    if shared.access.credentials.is_empty() {
        return Redirect::to(&view.links.page("")).into_response();
    }
    let ended = params.ended.map(|_| "You are logged out.");
    view.login("", ended, false).into_response()
}

/// Begins a session.
pub(in crate::web) async fn log_in(
    view: View,
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Form(fields): Form<Fields>,
) -> Response {
    let (name, password) = (fields.name.trim(), fields.password.as_str());
    let path = view.root();
    match shared.access.log_in(&caller, (name, password), &path).await {
        Ok(cookie) => {
            let to = Redirect::to(&view.after_login(&fields.to));
            ([(SET_COOKIE, cookie)], to).into_response()
        }
        Err(Denied::Unauthorized) => {
            let page = view.login(&fields.to, Some("Wrong name or password."), false);
            (StatusCode::UNAUTHORIZED, page).into_response()
        }
        Err(Denied::TooMany { seconds }) => {
            let problem = format!("Too many failed logins: retry in {seconds} s.");
            let page = view.login(&fields.to, Some(&problem), false);
            let retry = [(RETRY_AFTER, seconds.to_string())];
            (StatusCode::TOO_MANY_REQUESTS, retry, page).into_response()
        }
    }
}

/// Ends the session.
pub(in crate::web) async fn log_out(
    view: View,
    State(shared): State<Arc<Shared>>,
    caller: Caller,
) -> Response {
    let cookie = shared.access.log_out(&caller, &view.root());
    let cookie = cookie.map(|cookie| [(SET_COOKIE, cookie)]);
    let to = format!("{}?ended", view.links.page("login"));
    (cookie, Redirect::to(&to)).into_response()
}

impl View {
    fn login(&self, to: &str, message: Option<&str>, is_linked: bool) -> Markup {
        self.bare_page("Log in", html! {
            @if let Some(message) = message { p.notice role="status" { (message) } }
            @if is_linked {
                p { "Are you logged in? " a href=(self.after_login(to)) { "Continue to the page" } }
            }
            form.settings method="post" action=(self.links.page("login")) {
                input type="hidden" name="to" value=(to);
                label { "Name " input name="name" autocomplete="username" autocapitalize="none" spellcheck="false" required; }
                label { "Password " input type="password" name="password" autocomplete="current-password" required; }
                button { "Log in" }
            }
        })
    }

    /// The URL of a page of this monitor. A form of another origin cannot lead elsewhere.
    fn after_login(&self, to: &str) -> String {
        let path = to.trim_start_matches('/');
        // Browsers read `\` as `/`, and skip control characters.
        let is_path = !path.contains('\\') && !path.contains(char::is_control);
        match path {
            path if is_path && !path.starts_with("login") => self.links.page(path),
            _ => self.links.page(""),
        }
    }
}
