//! How figures are shown: in units, with separated thousands, and without leaving a state out.

use asynqueue_monitor::Monitor;
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_test_servers::RedisServer;

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
