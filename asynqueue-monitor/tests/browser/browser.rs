//! A headless browser.

use asynqueue_test_servers::{Chromedriver, eventually};
use fantoccini::{Client, ClientBuilder, Locator, elements::Element};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

/// A session of a browser, which ends with this.
pub(crate) struct Browser {
    pub(crate) client: Client,
    /// Where the session is, for the commands that only Chromium has.
    session: String,
    _driver: Chromedriver,
}

impl Browser {
    pub(crate) async fn start() -> Self {
        Self::with(json!({})).await
    }

    /// One that runs no script.
    pub(crate) async fn without_script() -> Self {
        Self::with(json!({ "profile.managed_default_content_settings.javascript": 2 })).await
    }

    async fn with(preferences: Value) -> Self {
        let driver = Chromedriver::start().await;
        let capabilities = json!({
            "goog:chromeOptions": {
                "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,800"],
                "prefs": preferences,
            },
            "goog:loggingPrefs": { "browser": "ALL" },
            // Dialogs are for the test to answer.
            "unhandledPromptBehavior": "ignore",
        });
        let capabilities = capabilities.as_object().expect("an object").clone();
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&driver.url())
            .await
            .expect("a session");
        let id = client.session_id().await.expect("answered").expect("an id");
        Self {
            client,
            session: format!("{}/session/{id}", driver.url()),
            _driver: driver,
        }
    }

    pub(crate) async fn open(&self, url: &str) {
        self.client.goto(url).await.expect(url);
    }

    pub(crate) async fn find(&self, css: &str) -> Element {
        let found = self.client.find(Locator::Css(css)).await;
        match found {
            Ok(element) => element,
            Err(error) => {
                let page = self.client.source().await.unwrap_or_default();
                panic!("{css}: {error}: {page}")
            }
        }
    }

    pub(crate) async fn has(&self, css: &str) -> bool {
        let found = self.client.find_all(Locator::Css(css)).await;
        !found.expect(css).is_empty()
    }

    /// Waits until a page has something, as after a click that leads to another.
    pub(crate) async fn until_has(&self, css: &str) {
        eventually(css, || self.has(css)).await;
    }

    pub(crate) async fn text(&self, css: &str) -> String {
        self.find(css).await.text().await.expect(css)
    }

    pub(crate) async fn click(&self, css: &str) {
        self.find(css).await.click().await.expect(css);
    }

    /// Clicks, and says yes to the question that it asks.
    pub(crate) async fn click_and_confirm(&self, css: &str) {
        self.click(css).await;
        self.client.accept_alert().await.expect("a question");
    }

    /// Types into whatever has the focus.
    pub(crate) async fn press(&self, keys: &str) {
        let element = self.client.active_element().await.expect("an element");
        element.send_keys(keys).await.expect(keys);
    }

    /// What a script returns.
    pub(crate) async fn run(&self, script: &str) -> Value {
        self.client.execute(script, vec![]).await.expect(script)
    }

    /// Waits until a script returns true.
    pub(crate) async fn until(&self, script: &str) {
        eventually(script, || async { self.run(script).await == true }).await;
    }

    /// A command that only Chromium has.
    async fn vendor(&self, path: &str, command: Value) -> Value {
        let request = reqwest::Client::new().post(format!("{}/{path}", self.session));
        let answer = request.json(&command).send().await.expect("an answer");
        let answer: Value = answer.json().await.expect("JSON");
        assert!(answer["value"]["error"].is_null(), "{path}: {answer}");
        answer["value"].clone()
    }

    pub(crate) async fn prefer(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        )
        .await;
    }

    pub(crate) async fn devtools(&self, command: &str, params: Value) -> Value {
        self.vendor(
            "goog/cdp/execute",
            json!({ "cmd": command, "params": params }),
        )
        .await
    }

    /// Fails if the browser has complained since this was asked last, as of a script that its policy forbids.
    pub(crate) async fn has_no_complaint(&self, page: &str) {
        let log = self.vendor("se/log", json!({ "type": "browser" })).await;
        let log = log.as_array().expect("a list");
        // The page itself may be one that is not there.
        let of_page = |one: &Value| {
            one["message"]
                .as_str()
                .is_some_and(|text| text.starts_with(page))
        };
        let severe = log.iter().filter(|one| one["level"] == "SEVERE");
        let severe: Vec<_> = severe
            .filter(|one| one["source"] != "network" || !of_page(one))
            .collect();
        assert!(severe.is_empty(), "{page}: {severe:?}");
    }
}
