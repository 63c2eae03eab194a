//! What pages show.

use super::site::Site;

#[tokio::test]
async fn every_page_is_there_and_names_what_it_is_about() {
    let site = Site::new().await;
    for (path, part) in [
        ("/", "email"),
        ("/queues/mail", "archived"),
        ("/queues/mail?state=retry", "busy"),
        ("/queues/mail/tasks/completed", "succeeded"),
        ("/servers", "No server is heard of"),
        ("/schedules", "There are none"),
        ("/subscriptions", "Nobody subscribes"),
        ("/storage", "in memory"),
        ("/storage", "<dialog id=\"keys\""),
        ("/style.css", "--ground"),
        ("/monitor.js", "EventSource"),
    ] {
        let page = site.page(path).await;
        let is_overview = path == "/";
        assert!(
            page.contains(if is_overview { "mail" } else { part }),
            "{path}: {page}"
        );
    }
    let (status, page) = site.get("/nowhere").await;
    assert_eq!(status, 404, "{page}");
    let (status, page) = site.get("/queues/mail/tasks/nobody").await;
    assert!(status == 404 && page.contains("mail/nobody"), "{page}");
    let (status, page) = site.get("/queues/mail?state=lost").await;
    assert!(
        status == 400 && page.contains("`lost` is no state"),
        "{page}"
    );
}

/// Payloads, ids, headers and errors come from anywhere.
#[tokio::test]
async fn what_comes_from_outside_is_shown_and_never_run() {
    let site = Site::new().await;
    for path in [
        "/queues/mail?state=pending",
        "/queues/mail?state=archived",
        "/queues/mail/tasks/pending%3Cscript%3E",
        "/queues/mail/tasks/archived",
        "/queues/%3Cscript%3Ealert(1)%3C%2Fscript%3E",
        "/?did=%3Cscript%3Ealert(1)%3C%2Fscript%3E",
        "/find?id=%3Cscript%3E",
        "/queues/mail?filter=%22%3E%3Cscript%3E",
    ] {
        let (_, page) = site.get(path).await;
        let ours = page.replace("<script src=\"/monitor.js\" defer></script>", "");
        assert!(!ours.contains("<script"), "{path}: {ours}");
        assert!(!ours.contains("<b>"), "{path}: {ours}");
    }
    let archived = site.page("/queues/mail/tasks/archived").await;
    assert!(
        archived.contains("no &lt;b&gt;such&lt;/b&gt; mailbox"),
        "{archived}"
    );
}

#[tokio::test]
async fn a_filter_in_the_address_leaves_out_what_does_not_match() {
    let site = Site::new().await;
    let page = site
        .page("/queues/mail?state=archived&filter=error~mailbox")
        .await;
    assert!(page.contains("/queues/mail/tasks/archived"), "{page}");
    let page = site
        .page("/queues/mail?state=archived&filter=error~timeout")
        .await;
    assert!(page.contains("No task matches."), "{page}");
    let page = site
        .page("/queues/mail?state=archived&filter=sender%3Dada")
        .await;
    assert!(
        page.contains("role=\"alert\"") && page.contains("sender"),
        "{page}"
    );
}

#[tokio::test]
async fn a_task_is_found_by_its_id() {
    let site = Site::new().await;
    let answer = site
        .client
        .get(site.url("/find?id=archived"))
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 303);
    assert_eq!(answer.headers()["location"], "/queues/mail/tasks/archived");
    let page = site.page("/find?id=nobody").await;
    assert!(page.contains("No queue has a task"), "{page}");
}

#[tokio::test]
async fn links_stay_below_the_path_it_is_served_at() {
    let site = Site::of(|monitor| monitor.path("/ops/queues/")).await;
    let page = site.page("/ops/queues").await;
    for link in [
        "\"/ops/queues/style.css\"",
        "\"/ops/queues/queues/mail\"",
        "\"/ops/queues/live\"",
    ] {
        assert!(page.contains(link), "{link}: {page}");
    }
    assert!(!page.contains("href=\"/queues"), "{page}");
    let (status, to) = site.post("/ops/queues/queues/mail/act", "do=pause").await;
    assert!(
        status == 303 && to.starts_with("/ops/queues/queues/mail?did="),
        "{to}"
    );
    assert_eq!(site.get("/ops/queues/").await.0, 303);
    let site = Site::of(|monitor| monitor.base("/behind/a/proxy")).await;
    let page = site.page("/queues/mail").await;
    assert!(page.contains("\"/behind/a/proxy/servers\""), "{page}");
}

#[tokio::test]
async fn figures_are_sent_as_they_change() {
    let site = Site::new().await;
    let mut answer = site
        .client
        .get(site.url("/live"))
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    let mut paused = false;
    // The second figures come a second after the first.
    while !text.contains("\"retry\":\"0\"") {
        let chunk = answer
            .chunk()
            .await
            .expect("it goes on")
            .expect("it goes on");
        text.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
        if text.contains("\"retry\":\"1\"") && !paused {
            paused = true;
            site.post(
                "/queues/mail/tasks",
                "state=retry&do=delete&which=chosen&id=retry",
            )
            .await;
        }
    }
    assert!(text.contains("\"archived\":\"1\""), "{text}");
}
