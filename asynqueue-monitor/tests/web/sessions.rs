//! Logging in by the form, and logging out.

use std::time::Duration;

use asynqueue_core::task::TaskState;
use asynqueue_monitor::{Monitor, Role};
use reqwest::{RequestBuilder, Response};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::site::Site;

const FORM: &str = "application/x-www-form-urlencoded";

async fn guarded(path: &'static str) -> Site {
    Site::of(move |monitor: Monitor| {
        let monitor = monitor.path(path).user("ada", "se cret", Role::Admin);
        let monitor = monitor
            .expect("a password")
            .user("guest", "look", Role::Viewer);
        monitor.expect("a password")
    })
    .await
}

impl Site {
    /// A request as a browser sends it.
    fn browse(&self, path: &str, cookie: &str) -> RequestBuilder {
        let request = self
            .client
            .get(self.url(path))
            .header("accept", "text/html,*/*;q=0.8");
        request.header("cookie", cookie)
    }

    async fn log_in(&self, path: &str, form: &str) -> Response {
        let request = self.client.post(self.url(path)).body(form.to_owned());
        let request = request.header("content-type", FORM);
        request.send().await.expect("a response")
    }

    /// The cookie of a new session, as browsers send it.
    async fn session(&self, path: &str, form: &str) -> String {
        let response = self.log_in(path, form).await;
        assert_eq!(response.status(), 303);
        let (pair, _) = cookie(&response).split_once(';').expect("attributes");
        pair.to_owned()
    }
}

fn cookie(response: &Response) -> &str {
    response.headers()["set-cookie"].to_str().expect("text")
}

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.expect("a response").status().as_u16()
}

#[tokio::test]
async fn a_browser_gets_a_form_and_a_program_a_challenge() {
    let site = guarded("/ops").await;
    let response = site.browse("/ops/queues/mail?state=retry", "").send().await;
    let response = response.expect("a response");
    assert_eq!(response.status(), 401);
    let challenge = response.headers()["www-authenticate"].to_str();
    assert!(challenge.expect("text").starts_with("Session "));
    let page = response.text().await.expect("text");
    for part in [
        r#"<form class="settings" method="post" action="/ops/login">"#,
        r#"name="to" value="/queues/mail?state=retry""#,
        r#"href="/ops/assets/"#,
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    // Nothing of the broker, and no updates.
    for part in ["nav", "data-live", "main.js", "archived"] {
        assert!(!page.contains(part), "{part}: {page}");
    }
    let response = site.client.get(site.url("/ops/api/queues")).send().await;
    let response = response.expect("a response");
    assert_eq!(response.status(), 401);
    let challenge = response.headers()["www-authenticate"].to_str();
    assert!(challenge.expect("text").starts_with("Basic "));
    // The style sheet of the form.
    let (_, style) = page.split_once("href=\"/ops/assets/").expect("a link");
    let (style, _) = style.split_once('"').expect("its end");
    assert_eq!(site.get(&format!("/ops/assets/{style}")).await.0, 200);
}

/// Behind a balancer that spreads the requests of a browser, each page would show the form without a reason.
#[tokio::test]
async fn the_form_explains_that_a_session_has_ended_or_is_of_another_process() {
    let (one, other) = tokio::join!(guarded(""), guarded(""));
    let cookie = one.session("/login", "name=ada&password=se+cret").await;
    assert_eq!(status(one.browse("/failures", &cookie)).await, 200);
    // The name of the cookie contains the port, which is that of the balancer for both.
    let (port, of_other) = (
        one.endpoint.address().port(),
        other.endpoint.address().port(),
    );
    let moved = cookie.replace(&port.to_string(), &of_other.to_string());
    for (cookie, explains) in [(moved.as_str(), true), ("", false)] {
        let response = other.browse("/failures", cookie).send().await;
        let page = response.expect("a response").text().await.expect("text");
        let reason = "another process of the monitor has it";
        assert_eq!(page.contains(reason), explains, "{cookie}: {page}");
    }
}

#[tokio::test]
async fn a_session_begins_with_the_form_and_ends_with_the_button() {
    let site = guarded("/ops").await;
    let form = "name=ada&password=se+cret&to=%2Fqueues%2Fmail%3Fstate%3Dretry";
    let response = site.log_in("/ops/login", form).await;
    assert_eq!(response.status(), 303);
    assert_eq!(
        response.headers()["location"],
        "/ops/queues/mail?state=retry"
    );
    let set = cookie(&response).to_owned();
    for part in [
        "; Path=/ops;",
        "; HttpOnly",
        "; SameSite=Strict",
        "; Max-Age=604800",
    ] {
        assert!(set.contains(part), "{part}: {set}");
    }
    assert!(!set.contains("Secure"), "{set}");
    let (session, _) = set.split_once(';').expect("attributes");
    let page = site
        .browse("/ops", session)
        .send()
        .await
        .expect("a response");
    let page = page.text().await.expect("text");
    assert!(page.contains(r#"action="/ops/logout""#) && page.contains(">ada</a>"));
    let pause = |cookie: &str| {
        let url = site.url("/ops/api/queues/mail/pause");
        site.client.post(url).header("cookie", cookie)
    };
    assert_eq!(status(pause(session)).await, 204);
    let out = site.client.post(site.url("/ops/logout"));
    let out = out
        .header("cookie", session)
        .send()
        .await
        .expect("a response");
    assert_eq!(out.status(), 303);
    assert_eq!(out.headers()["location"], "/ops/login?ended");
    let removed = cookie(&out);
    assert!(removed.contains("=; Path=/ops; Max-Age=0;"), "{removed}");
    assert_eq!(status(site.browse("/ops", session)).await, 401);
    assert_eq!(status(pause(session)).await, 401);
    let page = site.page("/ops/login?ended").await;
    assert!(page.contains("You are logged out."), "{page}");
}

#[tokio::test]
async fn a_session_has_the_role_of_its_user() {
    let site = guarded("/").await;
    let session = site.session("/login", "name=guest&password=look").await;
    let delete = site.form("/queues/mail/tasks", "state=archived&which=all&do=delete");
    assert_eq!(status(delete.header("cookie", &session)).await, 403);
    assert_eq!(site.count(TaskState::Archived).await, 1);
    // Viewers log out too.
    let out = site
        .client
        .post(site.url("/logout"))
        .header("cookie", &session);
    assert_eq!(status(out).await, 303);
    assert_eq!(status(site.browse("/", &session)).await, 401);
}

#[tokio::test]
async fn an_invented_cookie_is_no_session() {
    let site = guarded("/").await;
    let session = site.session("/login", "name=ada&password=se+cret").await;
    let (name, token) = session.split_once('=').expect("a pair");
    let shorter = &token[..token.len() - 1];
    for invented in ["", shorter, "AAAA", "ada", &token.to_uppercase()] {
        let cookie = format!("{name}={invented}");
        assert_eq!(status(site.browse("/", &cookie)).await, 401, "{invented}");
    }
    assert_eq!(status(site.browse("/", &session)).await, 200);
}

#[tokio::test]
async fn guesses_by_the_form_are_throttled_like_those_of_programs() {
    let site = guarded("/").await;
    let guess = async |n: usize| {
        let form = format!("name=ada&password=guess{n}&to=%2Fservers");
        let response = site.log_in("/login", &form).await;
        assert!(!response.headers().contains_key("set-cookie"));
        let status = response.status().as_u16();
        (status, response.text().await.expect("text"))
    };
    for n in 0..5 {
        let (code, page) = guess(n).await;
        assert_eq!(code, 401);
        assert!(page.contains("Wrong name or password.") && page.contains(r#"value="/servers""#));
        let request = site
            .client
            .get(site.url("/"))
            .basic_auth("ada", Some(n.to_string()));
        assert_eq!(status(request).await, 401);
    }
    let (code, page) = guess(5).await;
    assert!(
        code == 429 && page.contains("Too many failed logins: retry in "),
        "{page}"
    );
    // The right password has to wait too: otherwise, guesses would continue.
    let response = site.log_in("/login", "name=ada&password=se+cret").await;
    assert_eq!(response.status(), 429);
}

/// A page of another site could log its visitor in as somebody else, or out.
#[tokio::test]
async fn pages_of_other_sites_neither_log_in_nor_out_nor_choose_the_next_page() {
    let site = guarded("/").await;
    let session = site.session("/login", "name=ada&password=se+cret").await;
    for path in ["/login", "/logout"] {
        let request = site.form(path, "name=ada&password=se+cret");
        let request = request.header("sec-fetch-site", "cross-site");
        assert_eq!(
            status(request.header("cookie", &session)).await,
            403,
            "{path}"
        );
    }
    assert_eq!(status(site.browse("/", &session)).await, 200);
    for to in [
        "https:%2F%2Fevil.example",
        "%2F%2Fevil.example",
        "%2F%5Cevil.example",
        "%5C%5Cevil",
        "%2F%09%2Fevil",
    ] {
        let form = format!("name=ada&password=se+cret&to={to}");
        let response = site.log_in("/login", &form).await;
        let location = response.headers()["location"].to_str().expect("text");
        let inside = location.starts_with('/') && !location[1..].starts_with(['/', '\\']);
        assert!(inside && !location.contains('\\'), "{to}: {location}");
    }
}

#[tokio::test]
async fn a_page_that_another_site_links_to_offers_to_continue() {
    let site = guarded("/").await;
    let linked = site
        .browse("/servers", "")
        .header("sec-fetch-site", "cross-site");
    let page = linked
        .send()
        .await
        .expect("a response")
        .text()
        .await
        .expect("text");
    assert!(
        page.contains(r#"<a href="/servers">Continue to the page</a>"#),
        "{page}"
    );
    let typed = site.browse("/servers", "").header("sec-fetch-site", "none");
    let page = typed
        .send()
        .await
        .expect("a response")
        .text()
        .await
        .expect("text");
    assert!(!page.contains("Continue"), "{page}");
}

#[tokio::test]
async fn an_action_after_the_end_of_the_session_changes_nothing_and_says_so() {
    let site = guarded("/").await;
    let action = site
        .form("/queues/mail/act", "do=pause")
        .header("accept", "text/html");
    let response = action.send().await.expect("a response");
    assert_eq!(response.status(), 401);
    let page = response.text().await.expect("text");
    assert!(
        page.contains("Your session has ended. Nothing was changed."),
        "{page}"
    );
}

/// Otherwise a tab that is still open would show figures after the log-out.
#[tokio::test]
async fn the_updates_of_a_session_end_with_it() {
    let site = guarded("/").await;
    let session = site.session("/login", "name=ada&password=se+cret").await;
    let live = site
        .client
        .get(site.url("/live"))
        .header("cookie", &session);
    let mut live = live.send().await.expect("a response");
    assert_eq!(live.status(), 200);
    live.chunk().await.expect("read").expect("an update");
    let out = site
        .client
        .post(site.url("/logout"))
        .header("cookie", &session);
    assert_eq!(status(out).await, 303);
    let ends = async { while live.chunk().await.expect("read").is_some() {} };
    let in_time = tokio::time::timeout(Duration::from_secs(30), ends).await;
    in_time.expect("the updates end");
}

#[tokio::test]
async fn without_users_there_is_nothing_to_log_in_to() {
    let site = Site::new().await;
    assert!(!site.page("/").await.contains("Log out"));
    let response = site.log_in("/login", "name=ada&password=x").await;
    assert!(!response.headers().contains_key("set-cookie"));
    assert_eq!(site.get("/login").await.0, 303);
}

/// More than the monitor keeps open. None of them sends a complete request.
#[tokio::test]
async fn half_open_connections_do_not_stop_a_login() {
    let site = guarded("/").await;
    let mut held = Vec::new();
    for _ in 0..600 {
        let mut stream = TcpStream::connect(site.endpoint.address())
            .await
            .expect("connected");
        stream.write_all(b"GET / HTTP/1.1\r\n").await.expect("sent");
        held.push(stream);
    }
    let log_in = site.session("/login", "name=ada&password=se+cret");
    // Less than the time after which the monitor closes them all.
    let in_time = tokio::time::timeout(Duration::from_secs(15), log_in).await;
    let session = in_time.expect("the login is not delayed");
    assert_eq!(status(site.browse("/servers", &session)).await, 200);
    drop(held);
}
