//! The name, title and color of an installation.

use asynqueue_core::memory::MemoryBroker;
use asynqueue_monitor::Monitor;

use super::site::Site;

#[tokio::test]
async fn each_page_shows_the_name_the_title_and_the_color_of_its_installation() {
    let production = |monitor: Monitor| {
        let monitor = monitor.name("production <eu>").title("Shop");
        monitor.color("#fd0").expect("a color")
    };
    let site = Site::of(production).await;
    for path in ["/", "/queues/mail", "/settings", "/servers"] {
        let page = site.page(path).await;
        for part in [
            " · production &lt;eu&gt; · Shop</title>",
            r#"<div class="face"><strong>production &lt;eu&gt;</strong>"#,
            r#">Shop</a>"#,
            r#"href="data:image/svg+xml,"#,
            r#"href="/assets/face/ffdd00.css""#,
        ] {
            assert!(page.contains(part), "{path}: {part}: {page}");
        }
    }
    let css = site.page("/assets/face/ffdd00.css").await;
    assert_eq!(css, ":root { --face: #ffdd00; --on-face: #000000; }\n");
    for invalid in ["ffdd00", "ffdd0.css", "é12345.css", "red.css", "}{}{}{.css"] {
        let path = format!("/assets/face/{invalid}");
        assert_eq!(site.get(&path).await.0, 404, "{invalid}");
    }
    let face = site.read("/api/installation").await;
    assert_eq!(face["name"], "production <eu>");
    assert_eq!(face["title"], "Shop");
    assert_eq!(face["color"], "#ffdd00");
    assert_eq!(face["user"], "anonymous");
    assert_eq!(face["role"], "admin");
}

#[tokio::test]
async fn without_a_name_pages_have_the_default_title_and_an_icon() {
    let site = Site::new().await;
    let page = site.page("/").await;
    assert!(page.contains("<title>Queues · asynqueue</title>"), "{page}");
    assert!(page.contains(r#"rel="icon" href="data:image/svg+xml,"#));
    assert!(!page.contains(r#"class="face""#) && !page.contains("assets/face"));
    let face = site.read("/api/installation").await;
    assert!(face["name"].is_null() && face["color"].is_null(), "{face}");
}

#[test]
fn an_invalid_color_is_refused_with_the_valid_ones() {
    let error = Monitor::new(MemoryBroker::new()).color("crimson");
    assert_eq!(
        error.expect_err("unknown").to_string(),
        "`crimson` is not a color: expected one such as `#b3261e`, or `red`, `orange`, `brown`, `green`, `teal`, `blue`, \
         `purple` or `gray`"
    );
}
