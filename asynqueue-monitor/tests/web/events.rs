//! Statistics by event: pages and API.

use serde_json::{Value, json};

use super::site::Site;

#[tokio::test]
async fn events_are_listed_with_their_outcomes_and_times() {
    let site = Site::new().await;
    for span in ["", "?span=15m", "?span=90d&sort=slow"] {
        let page = site.page(&format!("/events{span}")).await;
        assert!(page.contains("email:send"), "{page}");
        // Two of three attempts failed.
        assert!(page.contains("66.7 %"), "{page}");
    }
    let page = site.page("/events?event=email:send&span=15m").await;
    assert!(page.contains("Attempts in the last 15 minutes: 1 succeeded, 2 failed"));
    assert!(page.contains("Running times: 3 attempts"), "{page}");
    for part in ["p50", "p95", "p99", "Waiting times"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    // Figures of the whole span, and in legends those of the last minute.
    assert!(
        page.contains("<dt>p99</dt>") && page.contains("p99, last: "),
        "{page}"
    );
    let none = site.page("/events?event=unknown").await;
    assert!(none.contains("Running times: no attempts"), "{none}");
}

#[tokio::test]
async fn an_unknown_span_or_order_is_rejected_with_those_that_exist() {
    let site = Site::new().await;
    for (path, expected) in [
        ("/events?span=2h", "unknown span `2h`: use `15m`"),
        ("/charts?span=week", "unknown span `week`: use `15m`"),
        ("/events?sort=size", "unknown order `size`"),
    ] {
        let (status, page) = site.get(path).await;
        assert_eq!(status, 400, "{path}");
        assert!(page.contains(expected), "{path}: {page}");
    }
}

async fn json_of(site: &Site, path: &str) -> Value {
    serde_json::from_str(&site.page(path).await).expect("JSON")
}

#[tokio::test]
async fn events_are_filtered_by_name_in_each_order_and_span() {
    let site = Site::new().await;
    let page = site.page("/events?span=6h&sort=slow&name=mail%3A").await;
    assert!(page.contains("email:send</a>"), "{page}");
    for link in [
        "span=15m&amp;sort=slow&amp;name=mail%3A",
        "span=6h&amp;sort=failed&amp;name=mail%3A",
    ] {
        assert!(page.contains(link), "{link}: {page}");
    }
    assert!(page.contains(r#"name="name" value="mail:""#), "{page}");
    let none = site.page("/events?name=nothing").await;
    assert!(!none.contains("email:send</a>"), "{none}");
    assert!(none.contains("<code>nothing</code> in its name"), "{none}");
    // A few events need no filter.
    let all = site.page("/events").await;
    assert!(!all.contains("Part of the event name"), "{all}");
}

#[tokio::test]
async fn the_api_has_the_same_figures() {
    let site = Site::new().await;
    let events = json_of(&site, "/api/events?span=24h").await;
    let event = &events[0];
    let figures = ["started", "succeeded", "failed", "archived", "lost"].map(|name| &event[name]);
    assert_eq!(event["event"], "email:send");
    assert_eq!(json!(figures), json!([3, 1, 2, 1, 0]));
    // Handlers may take less than a millisecond.
    let p95 = event["running"]["p95_ms"].as_f64();
    assert!(p95.is_some_and(|p95| p95 > 0.0), "{event}");
    let course = json_of(&site, "/api/events/email:send?span=1h").await;
    assert_eq!(course["points"][0]["failed"], 2);
    assert_eq!(course["running"][0]["from_us"], 0);
    let (status, _) = site.get("/api/events?span=2h").await;
    assert_eq!(status, 400);
}

/// Each has the figures of its last minutes.
#[tokio::test]
async fn metrics_are_shown_for_each_span() {
    let site = Site::new().await;
    for span in ["15m", "1h", "6h", "24h", "7d", "90d"] {
        for queue in ["", "&queue=mail"] {
            let page = site.page(&format!("/charts?span={span}{queue}")).await;
            assert!(page.contains("1 succeeded, 2 failed"), "{span}: {page}");
        }
    }
}

#[tokio::test]
async fn a_deployment_is_marked_in_charts() {
    let site = Site::new().await;
    let _server = site.serve("web-1").await;
    for page in [
        "/events?event=email:send",
        "/charts?span=1h",
        "/charts?span=7d",
    ] {
        site.until_says(page, "<title>1.2.3 deployed at ").await;
    }
}
