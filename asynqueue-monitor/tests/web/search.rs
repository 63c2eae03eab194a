//! The search over all queues and states, by page and API.

use std::time::Duration;

use asynqueue_core::producer::Producer;
use asynqueue_monitor::Role;
use asynqueue_test_servers::eventually;
use reqwest::Method;
use serde_json::{Value, json};

use super::site::{Email, Site};

impl Site {
    /// The result of a search, after it has ended.
    async fn searched(&self, text: &str) -> Value {
        let body = json!({ "text": text });
        let (status, search) = self
            .request(Method::POST, "/api/searches", Some(body))
            .await;
        assert_eq!(status, 202, "{search}");
        let path = format!("/api/searches/{}", search["id"].as_str().expect("an id"));
        let ended = async || self.read(&path).await["ended"] == true;
        eventually("the search has ended", ended).await;
        self.read(&path).await
    }

    async fn enqueue_to(&self, queue: &str, to: &str) {
        let email = Email { to: to.into() };
        let producer = Producer::new(self.broker.clone());
        let task = producer.enqueue(email);
        let task = task.queue(queue).header("tenant", "acme");
        task.await.expect("accepted");
    }
}

fn ids(search: &Value) -> Vec<&str> {
    let tasks = search["tasks"].as_array().into_iter().flatten();
    let mut ids: Vec<_> = tasks.filter_map(|task| task["id"].as_str()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn a_word_is_found_in_ids_payloads_headers_and_failures_of_all_queues() {
    let site = Site::new().await;
    site.enqueue_to("other", "order-1000123").await;
    let found = site.searched("1000123").await;
    let lists = json!([{ "queue": "other", "state": "pending", "found": 1 }]);
    assert_eq!(
        (&found["found"], &found["lists"]),
        (&json!(1), &lists),
        "{found}"
    );
    assert_eq!(found["tasks"][0]["excerpt"], "{\"to\":\"order-1000123\"}");
    assert_eq!((&found["scanned"], &found["total"]), (&json!(6), &json!(6)));
    assert_eq!(ids(&site.searched("MAILBOX").await), ["archived"]);
    assert_eq!(
        site.searched("acme").await["tasks"][0]["excerpt"],
        "tenant=acme"
    );
    assert_eq!(ids(&site.searched("schedul").await), ["scheduled"]);
    assert_eq!(ids(&site.searched("error~busy age<1h").await), ["retry"]);
    assert_eq!(site.searched("nowhere to be seen").await["found"], 0);
}

#[tokio::test]
async fn an_exact_id_is_found_without_a_scan() {
    let site = Site::new().await;
    let found = site.searched("archived").await;
    assert_eq!(
        (&found["scanned"], ids(&found)),
        (&json!(0), vec!["archived"])
    );
    let response = site.client.get(site.url("/search?q=archived")).send().await;
    let response = response.expect("a response");
    assert_eq!(
        response.headers()["location"],
        "/queues/mail/tasks/archived"
    );
    // In quotation marks, it is text.
    let found = site.searched("\"archived\"").await;
    assert_eq!(
        (&found["scanned"], ids(&found)),
        (&json!(5), vec!["archived"])
    );
}

#[tokio::test]
async fn a_page_shows_the_results_by_queue_with_links_to_their_lists() {
    let site = Site::new().await;
    site.enqueue_to("other", "zoe").await;
    site.enqueue_to("third", "zoe").await;
    let path = "/search?q=event%3Demail:*%20zoe";
    site.until_says(path, "All 7 tasks searched, 2 found.")
        .await;
    let page = site.page(path).await;
    for queue in ["other", "third"] {
        let list =
            format!("/queues/{queue}?state=pending&amp;filter=event%3Demail%3A%2A%20text~zoe");
        assert!(page.contains(&list), "{page}");
    }
    assert!(
        page.contains("Search again")
            && page.contains("Ended <time")
            && !page.contains("data-running"),
        "{page}"
    );
    let list = site
        .page("/queues/other?state=pending&filter=text~zoe")
        .await;
    assert!(list.contains("class=\"id\""), "{list}");
    let page = site.page("/search?q=eror~x").await;
    assert!(page.contains("expected `error~x`"), "{page}");
    assert!(site.page("/search").await.contains("Searches all queues"));
}

/// A reload must not start another scan.
#[tokio::test]
async fn the_same_text_finds_the_same_search_until_it_is_started_again() {
    let site = Site::new().await;
    let first = site.searched("email:").await;
    assert_eq!(site.searched(" email: ").await["id"], first["id"]);
    site.page("/search?q=email:").await;
    assert_eq!(site.searched("email:").await["id"], first["id"]);
    let (status, to) = site.post("/search", "q=email%3A&do=again").await;
    assert_eq!((status, &*to), (303, "/search?q=email%3A"));
    assert_ne!(site.searched("email:").await["id"], first["id"]);
}

#[tokio::test]
async fn the_results_that_are_kept_are_bounded_and_all_are_counted() {
    let site = Site::new().await;
    site.enqueue(1_205).await;
    let found = site.searched("email:").await;
    assert_eq!(found["found"], 1_210);
    assert_eq!(found["tasks"].as_array().map(Vec::len), Some(1_000));
    let page = site.page("/search?q=email:").await;
    assert!(
        page.contains("The first 1\u{202f}000 results are shown."),
        "{page}"
    );
}

#[tokio::test]
async fn a_search_is_stopped_and_others_cannot_see_it() {
    let site = Site::of(|monitor| {
        let monitor = monitor
            .user("guest", "guest", Role::Viewer)
            .expect("a password");
        monitor
            .user("other", "other", Role::Viewer)
            .expect("a password")
    })
    .await;
    let send = async |method: Method, path: &str, user: &str, body: Option<Value>| {
        let request = site.client.request(method, site.url(path));
        let request = request.basic_auth(user, Some(user));
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let response = request.send().await.expect("a response");
        let status = response.status().as_u16();
        (status, response.json::<Value>().await.expect("JSON"))
    };
    // Viewers may search, although a search is started by POST.
    let body = Some(json!({ "text": "email:" }));
    let (status, search) = send(Method::POST, "/api/searches", "guest", body).await;
    assert_eq!(status, 202, "{search}");
    let path = format!("/api/searches/{}", search["id"].as_str().expect("an id"));
    assert_eq!(send(Method::GET, &path, "other", None).await.0, 404);
    assert_eq!(send(Method::DELETE, &path, "other", None).await.0, 404);
    let (status, stopped) = send(Method::DELETE, &path, "guest", None).await;
    assert_eq!((status, &stopped["ended"]), (202, &json!(true)));
}

#[tokio::test]
async fn an_invalid_search_is_refused_with_the_reason() {
    let site = Site::new().await;
    for (body, part) in [
        (json!({ "text": " " }), "`text` is empty"),
        (json!({ "text": "eror~x" }), "expected `error~x`"),
        (json!({ "words": "x" }), "words"),
    ] {
        let (status, body) = site
            .request(Method::POST, "/api/searches", Some(body))
            .await;
        let error = body["error"].as_str().unwrap_or_default();
        assert!(status == 400 && error.contains(part), "{status} {body}");
    }
    let wait = Duration::from_secs(30);
    let missing = site.request(Method::GET, "/api/searches/none", None);
    let (status, _) = tokio::time::timeout(wait, missing).await.expect("in time");
    assert_eq!(status, 404);
}

/// Otherwise viewers could guess them.
#[tokio::test]
async fn a_search_does_not_find_or_show_redacted_values() {
    let site = Site::of(|monitor| monitor.redact(["to"])).await;
    assert_eq!(site.searched("waits").await["found"], 0);
    let found = site.searched("\"retry\"").await;
    assert_eq!(found["tasks"][0]["id"], "retry", "{found}");
    let found = site.searched("event=email:send").await;
    assert!(!found.to_string().contains("waits"), "{found}");
    let page = site.page("/search?q=event%3Demail:send").await;
    assert!(
        page.contains("[redacted]") && !page.contains("waits"),
        "{page}"
    );
}
