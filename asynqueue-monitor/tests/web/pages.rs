//! The content of pages.

use std::time::Duration;

use asynqueue_core::{
    broker::{Keep, ServerInfo, all_of},
    producer::Producer,
    scheduler::Entry,
    task::Timestamp,
};

use serde_json::json;

use super::site::{Email, Site};

#[tokio::test]
async fn every_page_exists_and_shows_its_subject() {
    let site = Site::new().await;
    for (path, part) in [
        ("/", "email"),
        ("/queues/mail", "archived"),
        ("/queues/mail?state=retry", "busy"),
        ("/queues/mail/tasks/completed", "succeeded"),
        (
            "/servers",
            "No servers. A running server sends a heartbeat every 5 seconds.",
        ),
        ("/schedules", "No schedule entries."),
        ("/subscriptions", "No subscriptions."),
        (
            "/charts",
            "Attempts in the last 24 hours: 1 succeeded, 2 failed",
        ),
        (
            "/charts?span=7d&queue=mail",
            "Attempts in the last 7 days: 1 succeeded",
        ),
        (
            "/charts?span=90d",
            "Attempts in the last 90 days: 1 succeeded",
        ),
        ("/settings", "Europe/Berlin"),
        ("/groups", "No tasks are waiting in groups."),
        ("/outboxes", "No outboxes."),
        ("/storage", "in memory"),
        ("/audit", "No changes."),
        ("/storage", "<dialog id=\"keys\""),
        ("/assets/other/style.css", "--ground"),
        ("/assets/other/figures.js", "EventSource"),
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
    assert!(
        status == 404 && page.contains("Task mail/nobody does not exist."),
        "{page}"
    );
    let (status, page) = site.get("/queues/mail?state=lost").await;
    assert!(
        status == 400 && page.contains("unknown state `lost`"),
        "{page}"
    );
}

/// Payloads, IDs, headers and errors are untrusted.
#[tokio::test]
async fn untrusted_text_is_escaped() {
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
        let ours = page.replacen("<script type=\"module\" src=\"/assets/", "", 1);
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
async fn a_filter_in_the_url_hides_other_tasks() {
    let site = Site::new().await;
    let page = site
        .page("/queues/mail?state=archived&filter=error~mailbox")
        .await;
    assert!(page.contains("/queues/mail/tasks/archived"), "{page}");
    let page = site
        .page("/queues/mail?state=archived&filter=error~timeout")
        .await;
    assert!(page.contains("No matching tasks."), "{page}");
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
    let response = site
        .client
        .get(site.url("/find?id=archived"))
        .send()
        .await
        .expect("a response");
    assert_eq!(response.status(), 303);
    assert_eq!(
        response.headers()["location"],
        "/queues/mail/tasks/archived"
    );
    let page = site.page("/find?id=nobody").await;
    assert!(
        page.contains("No queue has a task with ID `nobody`."),
        "{page}"
    );
}

#[tokio::test]
async fn links_stay_below_the_path_of_the_monitor() {
    let site = Site::of(|monitor| monitor.path("/ops/queues/")).await;
    let page = site.page("/ops/queues").await;
    for link in [
        "\"/ops/queues/assets/",
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
    let mut response = site
        .client
        .get(site.url("/live?all=true"))
        .send()
        .await
        .expect("a response");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    let mut paused = false;
    // The second figures come a second after the first.
    while !text.contains("\"retry\":\"0\"") {
        let chunk = response
            .chunk()
            .await
            .expect("the stream is open")
            .expect("the stream is open");
        text.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
        if text.contains("\"retry\":\"1\"") && !paused {
            paused = true;
            let form = "state=retry&do=delete&which=chosen&id=retry";
            site.post("/queues/mail/tasks", form).await;
        }
    }
    assert!(text.contains("\"archived\":\"1\""), "{text}");
}

/// Error pages have the usual navigation.
#[tokio::test]
async fn errors_are_shown_on_pages_with_navigation() {
    let site = Site::of(|monitor| monitor.path("/ops")).await;
    for path in [
        "/ops/nowhere",
        "/ops/queues/mail?state=lost",
        "/ops/schedules/none",
    ] {
        let (status, page) = site.get(path).await;
        assert!(status == 404 || status == 400, "{path}: {status}");
        assert!(page.contains("href=\"/ops/servers\""), "{path}: {page}");
        assert!(page.contains("role=\"alert\""), "{path}: {page}");
    }
}

#[tokio::test]
async fn tasks_are_sorted() {
    let site = Site::new().await;
    site.enqueue(60).await;
    let first = |page: &str| {
        let (_, rest) = page.split_once("class=\"id\"").expect("a task");
        rest.split_once('>').expect("its link").1[..8].to_owned()
    };
    let path = "/queues/mail?state=pending&sort=oldest";
    let page = site.page(path).await;
    assert_eq!(first(&page), "pending&", "{page}");
    assert!(page.contains("after=50"), "{page}");
    let page = site.page(&format!("{path}&after=50")).await;
    assert_eq!(page.matches("class=\"id\"").count(), 11);
    assert!(!page.contains("class=\"next\""), "{page}");
    let page = site.page("/queues/mail?state=pending&sort=newest").await;
    assert_eq!(page.matches("class=\"id\"").count(), 50);
    let (status, page) = site.get("/queues/mail?sort=colour").await;
    assert!(status == 400 && page.contains("`colour`"), "{page}");
}

#[tokio::test]
async fn filter_terms_are_suggested_from_existing_tasks() {
    let site = Site::new().await;
    let page = site.page("/queues/mail?state=pending").await;
    assert!(page.contains("data-term=\"event=email:send\""), "{page}");
}

#[tokio::test]
async fn queues_are_sorted_and_found_by_a_part_of_their_name() {
    let site = Site::new().await;
    for queue in ["other", "paper-mail"] {
        let producer = asynqueue_core::producer::Producer::new(site.broker.clone());
        let email = crate::site::Email { to: "ada".into() };
        producer
            .enqueue(email)
            .queue(queue)
            .await
            .expect("accepted");
    }
    let queues = |page: &str| {
        let rows = page.split("<tr data-queue=\"").skip(1);
        let names = rows.map(|row| row.split('"').next().unwrap_or_default().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(
        queues(&site.page("/").await),
        ["mail", "other", "paper-mail"]
    );
    let page = site.page("/?sort=retry&name=mail").await;
    assert_eq!(queues(&page), ["mail", "paper-mail"]);
    assert!(page.contains("aria-sort=\"descending\""), "{page}");
    assert_eq!(queues(&site.page("/?name=lost").await), [""; 0]);
}

#[tokio::test]
async fn a_page_lists_at_most_a_hundred_queues_and_links_to_the_next() {
    let site = Site::new().await;
    let producer = asynqueue_core::producer::Producer::new(site.broker.clone());
    for queue in 0..104 {
        let email = crate::site::Email { to: "ada".into() };
        let task = producer.enqueue(email).queue(format!("many-{queue}"));
        task.await.expect("accepted");
    }
    let rows = |page: &str| page.matches("<tr data-queue").count();
    let page = site.page("/?name=many&sort=pending").await;
    assert_eq!(rows(&page), 100);
    let more = "?sort=pending&amp;name=many&amp;after=100";
    assert!(page.contains(more), "{page}");
    let page = site.page(&format!("/{}", more.replace("&amp;", "&"))).await;
    assert_eq!(rows(&page), 4);
    assert!(!page.contains("Next page"), "{page}");
}

#[tokio::test]
async fn a_read_only_monitor_lets_viewers_save_their_settings() {
    let site = Site::of(|monitor| monitor.read_only().path("/ops")).await;
    let form = site.form("/ops/settings", "theme=dark&zone=Asia/Tokyo&refresh=5");
    let response = form.send().await.expect("a response");
    assert_eq!(response.status(), 303);
    let cookie = response.headers()["set-cookie"].to_str().expect("text");
    assert!(cookie.contains("Path=/ops;"), "{cookie}");
    let pair = cookie.split(';').next().expect("a pair").to_owned();
    let request = site
        .client
        .get(site.url("/ops/queues/mail/tasks/completed"));
    let page = request
        .header("cookie", pair)
        .send()
        .await
        .expect("a response");
    let page = page.text().await.expect("text");
    for part in ["data-theme=\"dark\"", "data-refresh=\"5\"", " JST\""] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let (status, page) = site
        .post("/ops/settings", "theme=dark&zone=Mars&refresh=5")
        .await;
    assert!(status == 400 && page.contains("`Mars`"), "{page}");
    assert_eq!(site.post("/ops/queues/mail/act", "do=pause").await.0, 403);
}

#[tokio::test]
async fn pages_are_compressed_on_request_and_live_updates_are_not() {
    let site = Site::new().await;
    for (path, expected) in [
        ("/", true),
        ("/assets/any/figures.js", true),
        ("/live", false),
    ] {
        let request = site
            .client
            .get(site.url(path))
            .header("accept-encoding", "gzip");
        let response = request.send().await.expect("a response");
        let is_compressed = response.headers().contains_key("content-encoding");
        assert_eq!(is_compressed, expected, "{path}");
    }
}

#[tokio::test]
async fn a_monitor_stops_while_an_event_stream_is_open() {
    let site = Site::new().await;
    let mut response = site
        .client
        .get(site.url("/live"))
        .send()
        .await
        .expect("a response");
    response.chunk().await.expect("the stream is open");
    let stopped = tokio::time::timeout(Duration::from_secs(30), site.endpoint.shutdown());
    stopped.await.expect("it stops");
}

/// A browser with a page of one version never loads a script of another.
#[tokio::test]
async fn assets_are_cached_forever_under_urls_with_a_content_hash() {
    let site = Site::new().await;
    let page = site.page("/").await;
    let links = page.split('"').filter(|part| part.starts_with("/assets/"));
    let mut paths: Vec<_> = links.map(str::to_owned).collect();
    assert_eq!(paths.len(), 2, "{page}");
    while let Some(path) = paths.pop() {
        let response = site.client.get(site.url(&path)).send().await;
        let response = response.expect("a response");
        assert_eq!(response.status(), 200, "{path}");
        let cache = &response.headers()["cache-control"];
        assert_eq!(cache, "max-age=31536000, immutable");
        let text = response.text().await.expect("text");
        let (folder, _) = path.rsplit_once('/').expect("a folder");
        let imports = text.lines().filter(|line| line.starts_with("import"));
        let names = imports.filter_map(|line| line.split("\"./").nth(1)?.split('"').next());
        paths.extend(names.map(|name| format!("{folder}/{name}")));
    }
    let other = site.client.get(site.url("/assets/other/main.js")).send();
    let other = other.await.expect("a response");
    assert_eq!(other.headers()["cache-control"], "no-store");
    assert_eq!(site.get("/assets/other/none.js").await.0, 404);
}

#[tokio::test]
async fn a_page_lists_at_most_a_hundred_schedules_and_finds_others_by_name() {
    let site = Site::new().await;
    let timetable = site.inspector.timetable();
    for n in 0..105 {
        let email = Email { to: "ada".into() };
        let entry = Entry::new(&format!("entry-{n:03}"), "@hourly", email);
        timetable.put(entry.expect("a rule")).await.expect("stored");
    }
    let page = site.page("/schedules").await;
    assert!(page.contains("entry-099") && !page.contains("entry-100"));
    let next = site.page("/schedules?name=entry&after=100").await;
    assert!(next.contains("entry-104") && !next.contains("entry-099"));
    let found = site.page("/schedules?name=42").await;
    assert!(found.contains("entry-042") && !found.contains("entry-041"));
}

/// Nobody may have seen them.
#[tokio::test]
async fn archived_tasks_that_were_deleted_need_attention() {
    let site = Site::new().await;
    let keep = Keep::default().archived_max(0);
    let broker = &site.broker;
    let trimmed = all_of(broker.trim(&["mail".into()], keep, 10).await).expect("trimmed");
    assert_eq!(trimmed[0].by_count, 1);
    let page = site.page("/").await;
    let says = "archived tasks were deleted: 1 over the limit of 0. Last deletion: ";
    assert!(page.contains(says), "{page}");
    let page = site.page("/queues/mail").await;
    assert!(page.contains("1 trimmed from the archive"), "{page}");
    let queue = site.read("/api/queues/mail").await;
    assert_eq!(
        (&queue["trimmed_by_count"], &queue["archived_max"]),
        (&json!(1), &json!(0))
    );
    assert!(queue["last_trimmed"].is_string(), "{queue}");
    let concerns = site.read("/api/attention").await;
    let found = concerns.as_array().expect("a list").iter();
    let kinds: Vec<_> = found.map(|concern| &concern["kind"]).collect();
    assert!(kinds.contains(&&json!("trimmed_archive")), "{kinds:?}");
}

/// The server was killed or is cut off, so it did not unregister.
#[tokio::test]
async fn a_lost_server_needs_attention_and_does_not_count_as_running() {
    let site = Site::new().await;
    let now = site.broker.now();
    let mut server = ServerInfo::new("worker-7", now);
    server.host = "host".into();
    server.pid = 7;
    server.seen = Timestamp::from_millis(now.as_millis() - 60_000);
    server.queues = vec![("mail".into(), 1)];
    server.events = Vec::new();
    server.concurrency = 8;
    server.busy = 3;
    let hour = Duration::from_secs(3600);
    let beat = site.broker.beat(server, hour).await;
    beat.expect("stored");
    let page = site.page("/").await;
    assert!(page.contains("worker-7 was lost 1m ago."), "{page}");
    assert!(
        page.contains("Tasks are pending, but no server is running."),
        "{page}"
    );
    assert!(page.contains("data-total=\"slots\">0<"), "{page}");
    let servers = site.page("/servers").await;
    assert!(servers.contains(">lost<"), "{servers}");
}

/// Otherwise the tasks of the next server would be far below.
#[tokio::test]
async fn long_lists_of_a_server_are_folded() {
    let site = Site::new().await;
    let mut server = ServerInfo::new("worker-7", site.broker.now());
    server.queues = (0..30).map(|n| (format!("q{n}").into(), 1)).collect();
    server.events = (0..2_000).map(|n| format!("e{n}").into()).collect();
    let beat = site.broker.beat(server, Duration::from_secs(3600)).await;
    beat.expect("stored");
    let page = site.page("/servers").await;
    let folded = "<details><summary>2\u{202f}000 events</summary>e0, e1, ";
    assert!(page.contains(folded), "{page}");
    assert_eq!(page.matches("<details>").count(), 1, "{page}");
}

/// Of the many frames of a panic, a reader needs those of the program.
#[tokio::test]
async fn a_backtrace_starts_with_the_frames_of_the_program() {
    let site = Site::new().await;
    let server = site.serve("worker-1").await;
    let producer = Producer::new(site.broker.clone());
    let email = Email {
        to: "panics".into(),
    };
    let task = producer.enqueue(email).queue("other").id("broken");
    task.await.expect("accepted");
    let path = "/queues/other/tasks/broken";
    site.until_says(path, "class=\"frames\"").await;
    let page = site.page(path).await;
    let (_, own) = page.split_once("<pre class=\"frames\">").expect("frames");
    let (own, rest) = own.split_once("</pre>").expect("its end");
    assert!(own.contains("web::site::send"), "{own}");
    assert!(
        !own.contains("core::panicking") && !own.contains("asynqueue_core::"),
        "{own}"
    );
    assert!(
        rest.contains("core::panicking") && rest.contains("<b>"),
        "{rest}"
    );
    server.shutdown().await.expect("stopped");
}
