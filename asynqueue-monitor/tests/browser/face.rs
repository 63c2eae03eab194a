//! The strip of the installation, the switcher of brokers, and the form to log in with: each readable, and inside of the
//! page, on a desktop and a phone, light and dark.

use asynqueue_core::memory::MemoryBroker;
use asynqueue_monitor::{Endpoint, Monitor, Monitors, Role};

use super::{
    accessible::{axe, faults},
    browser::Browser,
    layout::{DESKTOP, PHONE},
};

/// A name and a color, or the default one.
const FACES: [(&str, Option<&str>); 3] = [
    ("production", Some("red")),
    (
        "a_staging_installation_with_a_name_that_no_browser_can_break",
        Some("#ffe000"),
    ),
    ("test", None),
];

/// Five brokers, of which the first needs a login.
async fn serve(name: &str, color: Option<&str>) -> Endpoint {
    let monitor = || {
        let monitor = Monitor::new(MemoryBroker::new()).name(name);
        match color {
            Some(color) => monitor.color(color).expect("a color"),
            None => monitor,
        }
    };
    let first = monitor().user("ada", "secret", Role::Admin);
    let mut monitors = vec![("eu-central", first.expect("a password"))];
    let others = ["eu-west", "us-east", "us-west", "asia-south"];
    monitors.extend(others.map(|name| (name, monitor())));
    let monitors = Monitors::of(monitors).expect("valid");
    monitors.serve("127.0.0.1:0").await.expect("served")
}

/// Checks the page that is open at each width and in each theme.
async fn is_readable(browser: &Browser, axe: &str, what: &str) {
    for size in [DESKTOP, PHONE] {
        browser.resize(size).await;
        for scheme in ["light", "dark"] {
            browser.prefer(scheme).await;
            let found = faults(browser, axe).await;
            assert!(found.is_empty(), "{what}, {size:?}, {scheme}: {found:?}");
            let width = browser
                .run("return document.documentElement.scrollWidth")
                .await;
            assert!(
                width.as_u64() <= Some(size.0.into()),
                "{what}, {size:?}: {width}"
            );
            if let Some(folder) = std::env::var_os("ASYNQUEUE_FACES") {
                let picture = browser.client.screenshot().await.expect("a picture");
                let file = format!("{what}-{}-{scheme}.png", size.0);
                std::fs::write(std::path::Path::new(&folder).join(file), picture).expect("written");
            }
        }
    }
}

#[tokio::test]
async fn the_face_of_an_installation_is_readable() {
    let (browser, axe) = (Browser::start().await, axe());
    for (name, color) in FACES {
        let endpoint = serve(name, color).await;
        browser
            .open(&format!("http://{}/us-east/servers", endpoint.address()))
            .await;
        is_readable(&browser, &axe, &format!("login-{name:.8}")).await;
        browser.log_in("ada", "secret").await;
        browser.until_has("nav[aria-label=Pages]").await;
        is_readable(&browser, &axe, &format!("page-{name:.8}")).await;
        // The strip has the color, over the full width.
        let strip = "const strip = document.querySelector('.face'), { left, right } = strip.getBoundingClientRect();
            return [getComputedStyle(strip).backgroundColor, left, right - document.documentElement.clientWidth]";
        let strip = browser.run(strip).await;
        assert_eq!((&strip[1], &strip[2]), (&0.into(), &0.into()), "{strip}");
        if color == Some("red") {
            assert_eq!(strip[0], "rgb(179, 38, 30)");
        }
        browser.assert_no_errors("").await;
        browser
            .click("nav[aria-label=Brokers] a[href='/us-west/servers']")
            .await;
        browser
            .until_has("a[href='/us-west/servers'][aria-current]")
            .await;
        assert_eq!(browser.text("h1").await, "Servers");
    }
}
