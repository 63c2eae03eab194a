//! Where the parts of a page are, at the widths of a desktop and a phone.

use serde_json::json;

use super::{browser::Browser, system::System};

const DESKTOP: (u32, u32) = (1440, 900);
const PHONE: (u32, u32) = (390, 844);

impl Browser {
    async fn resize(&self, (width, height): (u32, u32)) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.devtools("Emulation.setDeviceMetricsOverride", size)
            .await;
    }

    /// Fails if a script returns anything for a page.
    async fn finds_nothing(&self, page: &str, script: &str) {
        self.open(page).await;
        assert_eq!(self.run(script).await, json!([]), "{page}");
    }
}

#[tokio::test]
async fn each_value_stands_beside_its_name() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    let misplaced = "return [...document.querySelectorAll('.node-info dt, .facts dt, section dt')].filter((name) => {
        const value = name.nextElementSibling;
        const [a, b] = [name, value].map((one) => one.getBoundingClientRect());
        return value.tagName === 'DD' && a.height > 0 && (Math.abs(a.top - b.top) > 1 || b.left < a.right - 1);
    }).map((name) => name.textContent)";
    for size in [DESKTOP, PHONE] {
        browser.resize(size).await;
        for page in system.pages() {
            browser.finds_nothing(&page, misplaced).await;
        }
    }
}
