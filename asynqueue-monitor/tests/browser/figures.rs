//! A benchmark of the pages with a million tasks.

use std::time::Duration;

use asynqueue_core::producer::Producer;
use asynqueue_monitor::Monitor;
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_test_servers::RedisServer;

use super::{browser::Browser, system::Email};

const QUEUES: usize = 200;
const TASKS: usize = 5_000;
const TIMES: usize = 7;

/// Long enough that no page is rendered from cached data.
const APART: Duration = Duration::from_millis(1_100);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a benchmark that takes minutes: run it with --release"]
async fn figures_of_a_million_tasks() {
    let redis = RedisServer::start().await;
    let options = RedisOptions::new(&redis.url()).expect("an address");
    let broker = RedisBroker::connect(options).await.expect("connected");
    let producer = Producer::new(broker.clone());
    for queue in 0..QUEUES {
        let emails = (0..TASKS).map(|n| Email {
            to: format!("user-{n}@example.org"),
        });
        let name = format!("tenant-{queue:03}");
        let later = (queue % 4 == 0).then_some(Duration::from_secs(3600));
        let enqueue = producer.enqueue_many_with(emails, |_, call| {
            let call = call.queue(&*name);
            match later {
                Some(delay) => call.delay(delay),
                None => call,
            }
        });
        assert!(enqueue.await.iter().all(Result::is_ok));
    }
    let endpoint = Monitor::new(broker)
        .serve("127.0.0.1:0")
        .await
        .expect("served");
    let browser = Browser::start().await;
    println!(
        "{:<44} {:>9} {:>9} {:>9} {:>9}",
        "page", "load ms", "paint ms", "sent kB", "total kB"
    );
    for path in [
        "/",
        "/?sort=pending",
        "/?name=tenant-01",
        "/queues/tenant-001",
        "/queues/tenant-001?state=pending&sort=newest",
        "/queues/tenant-001?state=pending&filter=payload~user-1999@",
        "/queues/tenant-004?state=scheduled",
        "/charts",
        "/charts?span=90d",
        "/servers",
    ] {
        let url = format!("http://{}{path}", endpoint.address());
        let mut seen = Vec::new();
        for _ in 0..TIMES {
            tokio::time::sleep(APART).await;
            browser.open(&url).await;
            seen.push(measure(&browser).await);
        }
        // Only the first load fetches style and scripts.
        let sent = seen[0][2];
        seen.sort_by(|a, b| a[1].total_cmp(&b[1]));
        let [response, paint, _, total] = seen[TIMES / 2];
        println!("{path:<44} {response:>9.0} {paint:>9.0} {sent:>9.1} {total:>9.1}");
    }
    println!("\n{:<44} {:>9}", "action", "paint ms");
    for (what, path, css) in [
        ("open a queue", "/", "tbody th a"),
        ("next page of a list", "/queues/tenant-001", "a.next"),
        (
            "switch the state",
            "/queues/tenant-004?state=scheduled",
            ".tabs a",
        ),
        ("open a task", "/queues/tenant-001", "a.id"),
        (
            "filter",
            "/queues/tenant-001?filter=payload~user-19",
            ".filter button",
        ),
        (
            "pause or resume a queue",
            "/queues/tenant-001",
            ".bar button",
        ),
        ("sort the overview", "/", "thead th:nth-child(2) a"),
    ] {
        let mut seen = Vec::new();
        for _ in 0..TIMES {
            let url = format!("http://{}{path}", endpoint.address());
            browser.open(&url).await;
            tokio::time::sleep(APART).await;
            seen.push(interact(&browser, css).await);
        }
        seen.sort_by(f64::total_cmp);
        println!("{what:<44} {:>9.0}", seen[TIMES / 2]);
    }
}

/// Milliseconds from a click to the first paint of the next page.
async fn interact(browser: &Browser, css: &str) -> f64 {
    let click = format!(
        "sessionStorage.clicked = performance.timeOrigin + performance.now();
        document.querySelector('{css}:not([hidden])').click()"
    );
    browser.run(&click).await;
    let painted = "const [paint] = performance.getEntriesByName('first-contentful-paint');
        const after = performance.timeOrigin - sessionStorage.clicked;
        return after > 0 && paint ? after + paint.startTime : null";
    loop {
        if let Some(millis) = browser.run(painted).await.as_f64() {
            return millis;
        }
    }
}

/// Milliseconds to the last byte and to the first paint, and kilobytes fetched, compressed and uncompressed.
async fn measure(browser: &Browser) -> [f64; 4] {
    let paint = "performance.getEntriesByName('first-contentful-paint')[0]";
    browser
        .until(&format!("return {paint} !== undefined"))
        .await;
    let script = format!(
        "const [page] = performance.getEntriesByType('navigation');
        const files = performance.getEntriesByType('resource').filter((one) => one.initiatorType !== 'other');
        const sum = (of) => [page, ...files].reduce((sum, one) => sum + of(one), 0) / 1024;
        return [page.responseEnd, {paint}.startTime, sum((one) => one.encodedBodySize), sum((one) => one.decodedBodySize)]"
    );
    let seen = browser.run(&script).await;
    [0, 1, 2, 3].map(|place| seen[place].as_f64().expect("a number"))
}
