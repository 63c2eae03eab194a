//! A headless browser.

use asynqueue_test_servers::{Chromedriver, eventually};
use fantoccini::{Client, ClientBuilder, Locator, elements::Element};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

/// A browser session. It ends when this is dropped.
pub(crate) struct Browser {
    pub(crate) client: Client,
    /// The URL of the session, for commands that only Chromium supports.
    session: String,
    _driver: Chromedriver,
}

impl Browser {
    pub(crate) async fn start() -> Self {
        Self::with(json!({}), &[]).await
    }

    /// A browser that reaches this machine under a host name.
    pub(crate) async fn at(host: &str) -> Self {
        let rule = format!("--host-resolver-rules=MAP {host} 127.0.0.1");
        Self::with(json!({}), &[&rule]).await
    }

    /// A browser with JavaScript disabled.
    pub(crate) async fn without_script() -> Self {
        let preferences = json!({ "profile.managed_default_content_settings.javascript": 2 });
        Self::with(preferences, &[]).await
    }

    async fn with(preferences: Value, more: &[&str]) -> Self {
        let driver = Chromedriver::start().await;
        let mut args = vec![
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--window-size=1280,800",
        ];
        args.extend(more);
        let capabilities = json!({
            "goog:chromeOptions": {
                "args": args,
                "prefs": preferences,
            },
            "goog:loggingPrefs": { "browser": "ALL" },
            // The tests handle dialogs themselves.
            "unhandledPromptBehavior": "ignore",
        });
        let capabilities = capabilities.as_object().expect("an object").clone();
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&driver.url())
            .await
            .expect("a session");
        let id = client.session_id().await.expect("read").expect("an id");
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

    /// Waits until an element exists, for example after a click on a link.
    pub(crate) async fn until_has(&self, css: &str) {
        eventually(css, || self.has(css)).await;
    }

    pub(crate) async fn text(&self, css: &str) -> String {
        loop {
            match self.find(css).await.text().await {
                Err(error) if error.is_stale_element_reference() => {}
                text => return text.expect(css),
            }
        }
    }

    /// Clicks, again if the page replaces the element between finding it and the click.
    pub(crate) async fn click(&self, css: &str) {
        loop {
            match self.find(css).await.click().await {
                Err(error) if error.is_stale_element_reference() => {}
                clicked => return clicked.expect(css),
            }
        }
    }

    /// Clicks, and accepts the confirmation dialog.
    pub(crate) async fn click_and_confirm(&self, css: &str) {
        self.click(css).await;
        self.client.accept_alert().await.expect("a question");
    }

    /// Types into the focused element.
    pub(crate) async fn press(&self, keys: &str) {
        let element = self.client.active_element().await.expect("an element");
        element.send_keys(keys).await.expect(keys);
    }

    /// Runs a script and returns its result.
    pub(crate) async fn run(&self, script: &str) -> Value {
        self.client.execute(script, vec![]).await.expect(script)
    }

    /// Waits until a script returns true.
    pub(crate) async fn until(&self, script: &str) {
        eventually(script, || async { self.run(script).await == true }).await;
    }

    /// Runs a command that only Chromium supports.
    async fn vendor(&self, path: &str, command: Value) -> Value {
        let request = reqwest::Client::new().post(format!("{}/{path}", self.session));
        let response = request.json(&command).send().await.expect("a response");
        let response: Value = response.json().await.expect("JSON");
        assert!(response["value"]["error"].is_null(), "{path}: {response}");
        response["value"].clone()
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

    /// Fails if the browser has logged an error since the last call, for example a violation of the content security
    /// policy.
    pub(crate) async fn assert_no_errors(&self, page: &str) {
        let log = self.vendor("se/log", json!({ "type": "browser" })).await;
        let log = log.as_array().expect("a list");
        // The page itself may be a 404.
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
