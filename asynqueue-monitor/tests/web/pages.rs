//! What pages show.

use std::time::Duration;

use asynqueue_core::{
    broker::{Keep, ServerInfo, all_of},
    scheduler::Entry,
    task::Timestamp,
};

use serde_json::json;

use super::site::{Email, Site};

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
        ("/charts", "the last 24 hours: 1 succeeded, 2 failed"),
        (
            "/charts?span=week&queue=mail",
            "the last 7 days: 1 succeeded",
        ),
        ("/charts?span=quarter", "the last 90 days: 1 succeeded"),
        ("/settings", "Europe/Berlin"),
        ("/groups", "No task waits in a group"),
        ("/storage", "in memory"),
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
    assert!(status == 404 && page.contains("mail/nobody"), "{page}");
    let (status, page) = site.get("/queues/mail?state=lost").await;
    assert!(
        status == 400 && page.contains("unknown state `lost`"),
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
    let mut answer = site
        .client
        .get(site.url("/live?all=true"))
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
            let form = "state=retry&do=delete&which=chosen&id=retry";
            site.post("/queues/mail/tasks", form).await;
        }
    }
    assert!(text.contains("\"archived\":\"1\""), "{text}");
}

/// Wherever one has got lost, there is a way back.
#[tokio::test]
async fn what_goes_wrong_is_told_on_a_page_like_all_others() {
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
async fn a_filter_is_completed_by_what_is_there() {
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
async fn a_page_has_no_more_than_a_hundred_queues_and_leads_to_the_others() {
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
    assert!(!page.contains("More"), "{page}");
}

#[tokio::test]
async fn settings_are_kept_by_the_browser_of_whoever_may_only_look() {
    let site = Site::of(|monitor| monitor.read_only().path("/ops")).await;
    let form = site.form("/ops/settings", "theme=dark&zone=Asia/Tokyo&refresh=5");
    let answer = form.send().await.expect("an answer");
    assert_eq!(answer.status(), 303);
    let cookie = answer.headers()["set-cookie"].to_str().expect("text");
    assert!(cookie.contains("Path=/ops;"), "{cookie}");
    let pair = cookie.split(';').next().expect("a pair").to_owned();
    let request = site
        .client
        .get(site.url("/ops/queues/mail/tasks/completed"));
    let page = request
        .header("cookie", pair)
        .send()
        .await
        .expect("an answer");
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
async fn pages_are_compressed_for_who_asks_and_figures_are_not() {
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
        let answer = request.send().await.expect("an answer");
        let is_compressed = answer.headers().contains_key("content-encoding");
        assert_eq!(is_compressed, expected, "{path}");
    }
}

#[tokio::test]
async fn a_monitor_stops_though_somebody_follows_its_figures() {
    let site = Site::new().await;
    let mut answer = site
        .client
        .get(site.url("/live"))
        .send()
        .await
        .expect("an answer");
    answer.chunk().await.expect("it goes on");
    let stopped = tokio::time::timeout(Duration::from_secs(30), site.endpoint.shutdown());
    stopped.await.expect("it stops");
}

/// A browser that has a page of one version never gets a script of another without asking.
#[tokio::test]
async fn style_and_script_are_kept_for_ever_by_an_address_of_their_content() {
    let site = Site::new().await;
    let page = site.page("/").await;
    let links = page.split('"').filter(|part| part.starts_with("/assets/"));
    let mut paths: Vec<_> = links.map(str::to_owned).collect();
    assert_eq!(paths.len(), 2, "{page}");
    while let Some(path) = paths.pop() {
        let answer = site.client.get(site.url(&path)).send().await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        let cache = &answer.headers()["cache-control"];
        assert_eq!(cache, "max-age=31536000, immutable");
        let text = answer.text().await.expect("text");
        let (folder, _) = path.rsplit_once('/').expect("a folder");
        let imports = text.lines().filter(|line| line.starts_with("import"));
        let names = imports.filter_map(|line| line.split("\"./").nth(1)?.split('"').next());
        paths.extend(names.map(|name| format!("{folder}/{name}")));
    }
    let other = site.client.get(site.url("/assets/other/main.js")).send();
    let other = other.await.expect("an answer");
    assert_eq!(other.headers()["cache-control"], "no-store");
    assert_eq!(site.get("/assets/other/none.js").await.0, 404);
}

#[tokio::test]
async fn a_page_has_no_more_than_a_hundred_schedules_and_finds_others_by_name() {
    let site = Site::new().await;
    let timetable = site.inspector.timetable();
    for n in 0..105 {
        let email = Email { to: "ada".into() };
        let entry = Entry::new(&format!("entry-{n:03}"), "@hourly", email);
        timetable.put(entry.expect("a rule")).await.expect("kept");
    }
    let page = site.page("/schedules").await;
    assert!(page.contains("entry-099") && !page.contains("entry-100"));
    let next = site.page("/schedules?name=entry&after=100").await;
    assert!(next.contains("entry-104") && !next.contains("entry-099"));
    let found = site.page("/schedules?name=42").await;
    assert!(found.contains("entry-042") && !found.contains("entry-041"));
}

/// They were deleted before anyone saw them.
#[tokio::test]
async fn archived_tasks_that_were_deleted_need_attention() {
    let site = Site::new().await;
    let keep = Keep::default().archived_max(0);
    let broker = &site.broker;
    let trimmed = all_of(broker.trim(&["mail".into()], keep, 10).await).expect("trimmed");
    assert_eq!(trimmed[0].by_count, 1);
    let page = site.page("/").await;
    let says = "archived tasks were deleted: 1 beyond the limit of 0 so far, the last ";
    assert!(page.contains(says), "{page}");
    let page = site.page("/queues/mail").await;
    assert!(page.contains("1 deleted from the archive"), "{page}");
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

/// It was killed, or is cut off: it has not said good-bye.
#[tokio::test]
async fn a_server_that_is_lost_needs_attention_and_is_none_of_those_at_work() {
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
    let told = site.broker.beat(server, hour).await;
    told.expect("kept");
    let page = site.page("/").await;
    assert!(page.contains("worker-7 (1m ago)"), "{page}");
    assert!(page.contains("no server is there to run them"), "{page}");
    assert!(page.contains("data-total=\"slots\">0<"), "{page}");
    let servers = site.page("/servers").await;
    assert!(servers.contains(">lost<"), "{servers}");
}
