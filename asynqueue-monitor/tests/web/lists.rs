//! Lists of tasks: their order, their columns and the values of headers.

use asynqueue_core::{broker::Page, inspector::Filter, producer::Producer, task::TaskState};
use serde_json::json;

use super::site::{Email, Site};

/// A part of a list, sorted, would not start with the task that comes first.
#[tokio::test]
async fn a_list_that_is_too_long_to_sort_says_so_and_names_its_order() {
    let site = Site::new().await;
    site.enqueue(1_999).await;
    let newest = "/queues/mail?state=pending&sort=newest";
    let note = "Not sorted, because only lists of up to 2\u{202f}000 tasks are. The order is: Last to run first.";
    assert!(!site.page(newest).await.contains("Not sorted"));
    site.enqueue(1).await;
    let page = site.page(newest).await;
    assert!(page.contains(note), "{page}");
    // Its pages are those of the queue, from the end with the newest tasks.
    let first = ids_on(&page);
    let second = site.page(&next_of(&page)).await;
    assert!(second.contains(note), "{second}");
    let shown = [first, ids_on(&second)].concat();
    let (queue, every) = ("mail".into(), Filter::default());
    let list = (site.inspector).list(&queue, TaskState::Pending, &every, Page::last(100));
    let last = list.await.expect("a list").tasks;
    let last: Vec<_> = last
        .iter()
        .map(|task| task.envelope.id.to_string())
        .collect();
    assert_eq!(shown, last);
    // The oldest ones are at its start.
    let page = site.page("/queues/mail?state=pending&sort=oldest").await;
    assert!(page.contains("The order is: Next to run first."), "{page}");
    // Archived tasks are listed from the last one, however many there are.
    let page = site.page("/queues/mail?state=archived").await;
    assert!(page.contains(">Last archived first</option>"), "{page}");
}

/// The ids in the list of a page.
fn ids_on(page: &str) -> Vec<String> {
    let rows = page.split("class=\"id\"").skip(1);
    let id = |row: &str| {
        let (_, text) = row.split_once('>').expect("a link");
        text.split_once('<').expect("its end").0.to_owned()
    };
    rows.map(id).collect()
}

/// The link to the next page.
fn next_of(page: &str) -> String {
    let (_, next) = page
        .split_once("class=\"next\" href=\"")
        .expect("a next page");
    let (next, _) = next.split_once('"').expect("its end");
    next.replace("&amp;", "&")
}

/// However long it is, on the page and in the API, with and without a filter.
#[tokio::test]
async fn a_list_is_read_from_its_end() {
    let site = Site::new().await;
    site.enqueue(2_100).await;
    let path = "/api/queues/mail/tasks?state=pending&limit=200";
    let (mut ids, mut next) = (Vec::new(), String::new());
    loop {
        let page = site.read(&format!("{path}&order=last{next}")).await;
        let tasks = page["tasks"].as_array().expect("a list").iter();
        ids.extend(tasks.map(|task| task["id"].as_str().expect("an id").to_owned()));
        match page["next"].as_str() {
            Some(cursor) => next = format!("&after={cursor}"),
            None => break,
        }
    }
    assert_eq!(ids.len(), 2_101);
    assert_eq!(ids[2_100], "pending<script>", "the first one comes last");
    let first = site.read(&format!("{path}&order=first")).await;
    assert_eq!(first, site.read(path).await);
    assert_eq!(first["tasks"][0]["id"], "pending<script>");
    for filter in ["", "age%3C1h"] {
        let list = format!("/queues/mail?state=pending&sort=last&filter={filter}");
        let page = site.page(&list).await;
        let chosen = "<option value=\"last\" selected>Last to run first</option>";
        assert!(
            page.contains(chosen) && !page.contains("Not sorted"),
            "{page}"
        );
        assert_eq!(ids_on(&page), ids[..50]);
        let page = site.page(&next_of(&page)).await;
        assert_eq!(ids_on(&page), ids[50..100]);
    }
    let (status, error) = site.get(&format!("{path}&order=newest")).await;
    assert!(status == 400 && error.contains("newest"), "{error}");
}

async fn enqueue_of(site: &Site, tenant: &str, tasks: usize) {
    let producer = Producer::new(site.broker.clone());
    let email = |_| Email { to: "ada".into() };
    let results = producer.enqueue_many_with((0..tasks).map(email), |_, call| {
        call.header("tenant", tenant).header("trace", "a b")
    });
    assert!(results.await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn headers_are_shown_as_columns_that_stay_on_the_next_page() {
    let site = Site::new().await;
    enqueue_of(&site, "acme", 60).await;
    let path = "/queues/mail?state=pending&filter=header.tenant%3Dacme&columns=header.tenant,trace";
    let page = site.page(path).await;
    assert!(
        page.contains("<th scope=\"col\">tenant</th><th scope=\"col\">trace</th>"),
        "{page}"
    );
    assert!(page.contains("<td data-label=\"trace\">a b</td>"), "{page}");
    for kept in [
        "filter=header.tenant%3Dacme&amp;sort=&amp;columns=header.tenant%2Ctrace&amp;after=",
        "/queues/mail?state=archived&amp;columns=header.tenant%2Ctrace",
        "name=\"columns\" value=\"header.tenant,trace\"",
    ] {
        assert!(page.contains(kept), "{kept}: {page}");
    }
    let form = "state=pending&do=archive&sort=oldest&columns=tenant&filter=age%3C1h";
    let (_, to) = site.post("/queues/mail/tasks", form).await;
    let list = "/queues/mail?state=pending&filter=age%3C1h&sort=oldest&columns=tenant&did=";
    assert!(to.starts_with(list), "{to}");
}

#[tokio::test]
async fn the_customer_who_floods_a_queue_is_named_first() {
    let site = Site::new().await;
    enqueue_of(&site, "small", 30).await;
    enqueue_of(&site, "flood", 300).await;
    enqueue_of(&site, "some \"one\"", 800).await;
    let uses = site
        .read("/api/queues/mail/headers?state=pending&filter=age%3C1h")
        .await;
    assert_eq!(
        (&uses["scanned"], &uses["complete"]),
        (&json!(1_000), &json!(false))
    );
    let tenant = &uses["headers"][0];
    assert_eq!(
        (&tenant["name"], &tenant["tasks"], &tenant["distinct"]),
        (&json!("tenant"), &json!(999), &json!(3))
    );
    let values = json!([{ "value": "some \"one\"", "tasks": 669 }, { "value": "flood", "tasks": 300 }, { "value": "small", "tasks": 30 }]);
    assert_eq!(tenant["values"], values);
    let page = site.page("/queues/mail?state=pending&by=tenant").await;
    let first =
        "/queues/mail?state=pending&amp;filter=header.tenant%3D%22some%20%5C%22one%5C%22%22\">some";
    assert!(page.contains(first), "{page}");
    assert!(
        page.contains("1\u{202f}000 pending tasks, half of them from each end of the list. 999 have this header, with 3 values."),
        "{page}"
    );
    let page = site.page("/queues/mail?state=pending&by=none").await;
    assert!(
        page.contains("No task has the header <code>none</code>."),
        "{page}"
    );
    assert!(
        !site
            .page("/queues/mail?state=archived")
            .await
            .contains("By header")
    );
}

/// The tasks that run next are those from before the flood.
#[tokio::test]
async fn a_flood_behind_a_backlog_is_named() {
    let site = Site::new().await;
    let read = async || {
        let uses = site.read("/api/queues/mail/headers?state=pending").await;
        let first = uses["headers"][0]["values"][0].clone();
        (uses["scanned"].clone(), uses["complete"].clone(), first)
    };
    for tenant in 0..10 {
        enqueue_of(&site, &format!("tenant-{tenant}"), 99).await;
    }
    let all = json!(1 + 10 * 99);
    let first = json!({ "value": "tenant-0", "tasks": 99 });
    assert_eq!(read().await, (all, json!(true), first));
    enqueue_of(&site, "flood", 1_000).await;
    let flood = json!({ "value": "flood", "tasks": 500 });
    assert_eq!(read().await, (json!(1_000), json!(false), flood));
}
