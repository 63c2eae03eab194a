//! How figures are shown: in units, with separated thousands, and without leaving a state out.

use std::time::Duration;

use asynqueue_core::{
    broker::ServerInfo, inspector::Inspector, producer::Producer, task::TaskState,
};
use asynqueue_macros::Task;
use asynqueue_monitor::Monitor;
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_test_servers::RedisServer;
use serde::{Deserialize, Serialize};

use super::site::Site;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "news:item", queue = "news", crate = asynqueue_core)]
#[task(aggregate(grace = "30m", max_delay = "1h", max_size = 1000))]
struct News {
    text: String,
}

/// The text of an element after a mark, without its tags.
fn after(page: &str, mark: &str) -> String {
    let (_, rest) = page
        .split_once(mark)
        .unwrap_or_else(|| panic!("{mark}: {page}"));
    let (start, end) = (
        rest.find("<dd>").expect("a value"),
        rest.find("</dd>").expect("its end"),
    );
    let mut text = String::new();
    let mut is_text = true;
    for letter in rest[start..end].chars() {
        match letter {
            '<' => is_text = false,
            '>' => is_text = true,
            _ if is_text => text.push(letter),
            _ => {}
        }
    }
    text
}

#[tokio::test]
async fn details_of_a_node_are_shown_in_units() {
    let redis = RedisServer::start().await;
    let options = RedisOptions::new(&redis.url()).expect("an address");
    let broker = RedisBroker::connect(options).await.expect("connected");
    let monitor = Monitor::new(broker);
    let endpoint = monitor.serve("127.0.0.1:0").await.expect("served");
    let url = format!("http://{}/storage", endpoint.address());
    let page = reqwest::get(url).await.expect("a response").text().await;
    let page = page.expect("text");
    let detail = |name: &str| after(&page, &format!("<code>{name}</code>"));
    for name in ["used_memory", "used_memory_peak"] {
        let size = detail(name);
        assert!(
            size.ends_with(" MB") || size.ends_with(" kB"),
            "{name}: {size}"
        );
    }
    let (saved, uptime) = (detail("rdb_last_save_time"), detail("uptime_in_seconds"));
    assert!(saved.ends_with(" ago"), "{saved}");
    assert!(uptime.ends_with('s') || uptime.ends_with('m'), "{uptime}");
    assert_eq!(detail("role"), "primary");
    assert_eq!(detail("connected_slaves"), "0");
    assert!(detail("maxmemory_policy").contains("noeviction"));
}

/// A queue whose tasks are all in groups is not an empty queue.
#[tokio::test]
async fn the_overview_counts_tasks_in_groups() {
    let site = Site::new().await;
    let producer = Producer::new(site.broker.clone());
    let news = (0..1_288).map(|n| News {
        text: n.to_string(),
    });
    let sent = producer.enqueue_many(news).await;
    assert!(sent.iter().all(Result::is_ok));
    let page = site.page("/").await;
    let (_, row) = page.split_once("<tr data-queue=\"news\">").expect("a row");
    let (row, _) = row.split_once("</tr>").expect("its end");
    assert!(row.contains(">1\u{202f}288</a>"), "{row}");
    let total = "data-total=\"later\">1\u{202f}290<";
    assert!(page.contains(total), "{page}");
}

#[tokio::test]
async fn thousands_are_separated_on_every_page() {
    let site = Site::new().await;
    site.enqueue(20_500).await;
    let now = site.broker.now();
    let mut server = ServerInfo::new("worker-7", now);
    server.queues = vec![("mail".into(), 1)];
    (server.busy, server.concurrency, server.abandoned) = (1_200, 2_400, 1_100);
    let hour = Duration::from_secs(3600);
    site.broker.beat(server, hour).await.expect("stored");
    let inspector = Inspector::new(site.broker.clone());
    let queue = inspector.queue(&"mail".into()).await.expect("read");
    assert_eq!(queue.stats.count(TaskState::Pending), 20_501);
    for (path, expected) in [
        (
            "/queues/mail?state=pending&filter=id%3Dnobody",
            "None of these 20\u{202f}000 tasks",
        ),
        ("/", "data-total=\"slots\">2\u{202f}400<"),
        ("/", "data-total=\"busy\">1\u{202f}200<"),
        ("/servers", "1\u{202f}200 of 2\u{202f}400"),
        ("/servers", "1\u{202f}100 handlers"),
    ] {
        let page = site.page(path).await;
        assert!(page.contains(expected), "{path}: {expected}: {page}");
    }
}

/// Charts follow the zone of the viewer, and these figures do not.
#[tokio::test]
async fn figures_of_a_day_name_its_zone() {
    let site = Site::new().await;
    for path in ["/", "/queues/mail"] {
        let page = site.client.get(site.url(path));
        let page = page
            .header("cookie", "asynqueue=system|Asia/Tokyo|1")
            .send()
            .await;
        let page = page.expect("a response").text().await.expect("text");
        let days = page.to_lowercase().matches("today").count();
        let zoned = page.to_lowercase().matches("today (utc)").count();
        assert!(days > 0 && days == zoned, "{path}: {days} {zoned}");
    }
}
