//! Several brokers in one monitor.

use std::io;

use asynqueue_core::{inspector::Inspector, memory::MemoryBroker, producer::Producer};
use asynqueue_monitor::{Endpoint, Monitor, Monitors, Role};
use reqwest::{Client, redirect::Policy};
use serde_json::{Value, json};

use super::site::Email;

struct Two {
    endpoint: Endpoint,
    us: Inspector,
    client: Client,
}

impl Two {
    /// `eu` has the queue `mail`, and `us` the queue `letters`.
    async fn serve(with: impl FnOnce(Monitor) -> Monitor) -> Self {
        let (eu, us) = (MemoryBroker::new(), MemoryBroker::new());
        for (broker, queue) in [(&eu, "mail"), (&us, "letters")] {
            let email = Email { to: "ada".into() };
            let producer = Producer::new(broker.clone());
            let task = producer.enqueue(email).queue(queue);
            task.await.expect("accepted");
        }
        let first = with(Monitor::new(eu).name("staging"));
        let monitors = [
            ("eu", first),
            (
                "us",
                Monitor::new(us.clone()).color("red").expect("a color"),
            ),
        ];
        let monitors = Monitors::of(monitors).expect("valid");
        let client = Client::builder().redirect(Policy::none());
        Self {
            endpoint: monitors.serve("127.0.0.1:0").await.expect("served"),
            us: Inspector::new(us),
            client: client.build().expect("a client"),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.endpoint.address())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let response = self
            .client
            .get(self.url(path))
            .send()
            .await
            .expect("a response");
        let status = response.status().as_u16();
        let to = response
            .headers()
            .get("location")
            .map(|to| to.to_str().expect("text").to_owned());
        (status, to.unwrap_or(response.text().await.expect("text")))
    }
}

#[tokio::test]
async fn each_broker_has_its_pages_and_a_switcher_to_the_others() {
    let two = Two::serve(|monitor| monitor).await;
    assert_eq!(two.get("/").await, (303, "/eu".into()));
    assert_eq!(two.get("/us/").await, (303, "/us".into()));
    let (_, eu) = two.get("/eu/servers").await;
    for part in [
        "<title>Servers · eu · staging · asynqueue</title>",
        r#"<a href="/eu/servers" aria-current="true">eu</a>"#,
        r#"<a href="/us/servers">us</a>"#,
    ] {
        assert!(eu.contains(part), "{part}: {eu}");
    }
    // The queue does not exist at the other broker.
    let (status, us) = two.get("/us/queues/letters").await;
    assert!(
        status == 200 && us.contains(r#"<a href="/eu">eu</a>"#),
        "{us}"
    );
    assert_eq!(two.get("/us/queues/mail").await.0, 404);
    assert!(us.contains("/us/assets/face/b3261e.css") && !eu.contains("assets/face"));
    let (_, face) = two.get("/us/api/installation").await;
    let face: Value = serde_json::from_str(&face).expect("JSON");
    assert_eq!(face["broker"], "us");
    let brokers = json!([{ "name": "eu", "path": "/eu" }, { "name": "us", "path": "/us" }]);
    assert_eq!(face["brokers"], brokers);
}

#[tokio::test]
async fn a_change_reaches_the_broker_of_its_page() {
    let two = Two::serve(|monitor| monitor).await;
    let pause = two
        .client
        .post(two.url("/us/api/queues/letters/pause"))
        .send()
        .await;
    assert_eq!(pause.expect("a response").status(), 204);
    let queue = two.us.queue(&"letters".into()).await.expect("read");
    assert!(queue.stats.paused);
}

#[tokio::test]
async fn all_brokers_share_a_login() {
    let guarded = |monitor: Monitor| {
        let monitor = monitor.path("/ops").user("ada", "secret", Role::Admin);
        monitor.expect("a password")
    };
    let two = Two::serve(guarded).await;
    for path in ["/ops/eu", "/ops/us", "/ops/us/api/queues"] {
        assert_eq!(two.get(path).await.0, 401, "{path}");
    }
    let form = two
        .client
        .post(two.url("/ops/eu/login"))
        .body("name=ada&password=secret");
    let form = form.header("content-type", "application/x-www-form-urlencoded");
    let response = form.send().await.expect("a response");
    let cookie = response.headers()["set-cookie"].to_str().expect("text");
    assert!(cookie.contains("; Path=/ops;"), "{cookie}");
    let (session, _) = cookie.split_once(';').expect("attributes");
    let look = async |path: &str| {
        let request = two.client.get(two.url(path)).header("cookie", session);
        request.send().await.expect("a response").status().as_u16()
    };
    assert_eq!(look("/ops/us/queues/letters").await, 200);
    let out = two
        .client
        .post(two.url("/ops/us/logout"))
        .header("cookie", session);
    assert_eq!(out.send().await.expect("a response").status(), 303);
    for path in ["/ops/eu", "/ops/us"] {
        assert_eq!(look(path).await, 401, "{path}");
    }
}

#[tokio::test]
async fn a_broker_that_is_away_does_not_hide_the_others() {
    let away =
        || Monitor::connecting(async || Err::<MemoryBroker, _>(io::Error::other("no route")));
    let monitors = [("eu", Monitor::new(MemoryBroker::new())), ("us", away())];
    let monitors = Monitors::of(monitors).expect("valid");
    let endpoint = monitors.serve("127.0.0.1:0").await.expect("served");
    let get = async |path: &str| {
        let url = format!("http://{}{path}", endpoint.address());
        let response = reqwest::get(url).await.expect("a response");
        (
            response.status().as_u16(),
            response.text().await.expect("text"),
        )
    };
    let (status, text) = get("/readyz").await;
    assert!(status == 200 && text.starts_with("eu: ok\nus: "), "{text}");
    assert_eq!(get("/us/readyz").await.0, 503);
    assert_eq!(get("/eu").await.0, 200);
    let alone = Monitors::of([("us", away())]).expect("valid");
    let endpoint = alone.serve("127.0.0.1:0").await.expect("served");
    let url = format!("http://{}/readyz", endpoint.address());
    assert_eq!(reqwest::get(url).await.expect("a response").status(), 503);
}

#[test]
fn names_are_checked_and_users_belong_to_the_first() {
    let monitor = || Monitor::new(MemoryBroker::new());
    let error = |names: &[&str]| {
        let monitors = names.iter().map(|name| (*name, monitor()));
        Monitors::of(monitors).expect_err("invalid").to_string()
    };
    for name in ["", "..", "a/b", "livez", "é", "a b"] {
        let error = error(&["eu", name]);
        let expected = format!("broker `{name}`: expected a name of letters, digits");
        assert!(error.starts_with(&expected), "{error}");
    }
    assert_eq!(
        error(&["eu", "eu"]),
        "broker `eu`: two brokers have this name: rename one of them"
    );
    assert_eq!(error(&[]), "broker ``: expected at least one broker");
    let guarded = monitor()
        .user("ada", "secret", Role::Admin)
        .expect("a password");
    let error = Monitors::of([("eu", monitor()), ("us", guarded)]).expect_err("users");
    assert_eq!(
        error.to_string(),
        "broker `us`: all brokers share a login: add its users to the first monitor"
    );
}
