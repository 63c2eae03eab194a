//! Who gets in, and what they may do.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use asynqueue_core::{
    config::{Account, AccountRole, Config, Monitoring, Password},
    memory::MemoryBroker,
    task::TaskState,
};
use asynqueue_monitor::{Monitor, Role, User};
use reqwest::StatusCode;

use super::site::Site;

/// `secret`, as `argon2 somesaltsomesalt -id -k 16 -t 2 -p 1 -e` writes it.
const HASH: &str = "$argon2id$v=19$m=16,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$E/SQMa+uT8S7798KgxD+hQxeFkYTta8dSdtQhFJv8GA";

/// The same with `-k 4096`, so that it takes a while.
const SLOW_HASH: &str = "$argon2id$v=19$m=4096,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$DpeISFFMG6L/3BdA4KlK5ZICsfRaB/lJRVNS7koASC4";

async fn guarded() -> Site {
    Site::of(|monitor| {
        let monitor = monitor
            .user("ada", "secret", Role::Admin)
            .expect("a password");
        monitor
            .user("guest", "guest", Role::Viewer)
            .expect("a password")
    })
    .await
}

#[tokio::test]
async fn nobody_gets_in_without_the_password() {
    let site = guarded().await;
    let (status, text) = site.get("/").await;
    assert_eq!((status, &*text), (401, "name and password, please\n"));
    for (name, password) in [
        ("ada", "wrong"),
        ("nobody", "secret"),
        ("", ""),
        ("ada", ""),
    ] {
        let request = site
            .client
            .get(site.url("/queues/mail"))
            .basic_auth(name, Some(password));
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 401, "{name}");
        assert!(answer.headers().contains_key("www-authenticate"));
        assert!(!answer.text().await.expect("text").contains("archived"));
    }
    let request = site
        .client
        .get(site.url("/"))
        .basic_auth("ada", Some("secret"));
    assert_eq!(request.send().await.expect("an answer").status(), 200);
    for path in ["/assets/any/style.css", "/live", "/nowhere"] {
        assert_eq!(site.get(path).await.0, 401, "{path}");
    }
}

#[tokio::test]
async fn guessing_passwords_is_slowed_down_and_who_is_in_stays_in() {
    let site = guarded().await;
    let get = async |password: &str| {
        let request = site
            .client
            .get(site.url("/"))
            .basic_auth("ada", Some(password));
        request.send().await.expect("an answer")
    };
    assert_eq!(get("secret").await.status(), 200);
    for n in 0..10 {
        assert_eq!(get(&format!("guess {n}")).await.status(), 401);
    }
    let answer = get("guess again").await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(get("secret").await.status(), 200);
}

/// However many are made at once, no more count than may.
#[tokio::test]
async fn many_guesses_at_once_gain_nothing_and_many_right_passwords_lose_nothing() {
    let slow = |monitor: Monitor| monitor.user("ada", SLOW_HASH, Role::Admin).expect("a hash");
    let site = Site::of(slow).await;
    let get = async |password: String| {
        let request = site.client.get(site.url("/settings"));
        let request = request.basic_auth("ada", Some(password));
        request.send().await.expect("an answer").status().as_u16()
    };
    let right = (0..40).map(|_| get("secret".into()));
    let right = futures_util::future::join_all(right).await;
    assert!(right.iter().all(|status| *status == 200), "{right:?}");
    let guesses = (0..100).map(|n| get(format!("guess {n}")));
    let guesses = futures_util::future::join_all(guesses).await;
    let tried = guesses.iter().filter(|status| **status == 401).count();
    assert!((10..15).contains(&tried), "{guesses:?}");
}

/// A page of another site that has got its own name to lead to this machine.
#[tokio::test]
async fn without_passwords_only_names_of_this_machine_lead_to_the_monitor() {
    let status = async |site: &Site, host: &str| {
        let request = site
            .client
            .get(site.url("/api/queues"))
            .header("host", host);
        request.send().await.expect("an answer").status().as_u16()
    };
    let open = Site::new().await;
    assert_eq!(status(&open, "evil.example:8089").await, 421);
    assert_eq!(status(&open, "localhost:8089").await, 200);
    assert_eq!(open.get("/").await.0, 200);
    assert_eq!(status(&guarded().await, "ops.example").await, 401);
    let meant = Site::of(Monitor::open_to_all).await;
    assert_eq!(status(&meant, "ops.example").await, 200);
}

/// An unset variable is an empty password.
#[test]
fn an_account_without_a_name_or_a_password_is_refused() {
    for (name, password, part) in [
        ("ada", "", "the password of `ada` is empty"),
        ("", "secret", "the user name `` is invalid"),
        ("a:b", "secret", "the user name `a:b` is invalid"),
    ] {
        let monitor = Monitor::new(MemoryBroker::new());
        let error = monitor.user(name, password, Role::Admin).err();
        let error = error.expect(part).to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_viewer_sees_everything_and_changes_nothing() {
    let site = guarded().await;
    let request = site
        .client
        .get(site.url("/queues/mail"))
        .basic_auth("guest", Some("guest"));
    let page = request
        .send()
        .await
        .expect("an answer")
        .text()
        .await
        .expect("text");
    assert!(
        page.contains("archived") && !page.contains("<button name=\"do\""),
        "{page}"
    );
    let request = site.form("/queues/mail/tasks", "state=archived&which=all&do=delete");
    let request = request.basic_auth("guest", Some("guest"));
    assert_eq!(request.send().await.expect("an answer").status(), 403);
    assert_eq!(site.count(TaskState::Archived).await, 1);
}

#[tokio::test]
async fn a_read_only_monitor_changes_nothing_for_anyone() {
    let site = Site::of(Monitor::read_only).await;
    let (status, _) = site.post("/queues/mail/act", "do=pause").await;
    assert_eq!(status, 403);
    assert!(!site.page("/queues/mail").await.contains("Pause"));
    let server = site.serve("worker-1").await;
    let (status, _) = site.post("/servers", "do=quiet&server=worker-1").await;
    assert_eq!(status, 403);
    assert!(!site.page("/servers").await.contains("Stop leasing"));
    assert!(!server.is_quiet());
}

/// A page of another site that the same browser has open.
#[tokio::test]
async fn a_change_that_another_site_asks_for_is_refused() {
    let site = Site::new().await;
    let post = async |name: &'static str, value: &str| {
        let request = site.form("/queues/mail/tasks", "state=archived&which=all&do=delete");
        let request = request.header(name, value);
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(post("sec-fetch-site", "cross-site").await, 403);
    assert_eq!(post("origin", "https://evil.example").await, 403);
    assert_eq!(site.count(TaskState::Archived).await, 1);
    assert_eq!(post("origin", &site.url("")).await, 303);
    site.until(TaskState::Archived, 0).await;
}

#[tokio::test]
async fn answers_let_a_browser_run_nothing_but_our_own_file() {
    let site = guarded().await;
    let answer = site
        .client
        .get(site.url("/"))
        .send()
        .await
        .expect("an answer");
    let policy = answer.headers()["content-security-policy"]
        .to_str()
        .expect("text");
    for rule in [
        "default-src 'none'",
        "script-src 'self'",
        "frame-ancestors 'none'",
        "form-action 'self'",
    ] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let page = Site::new().await.page("/queues/mail").await;
    assert!(
        !page.contains(" style=") && !page.contains(" onclick="),
        "{page}"
    );
}

#[tokio::test]
async fn others_than_this_machine_need_a_password_or_an_explicit_word() {
    let monitor = Monitor::new(MemoryBroker::new());
    let error = monitor
        .serve("0.0.0.0:0")
        .await
        .expect_err("unguarded")
        .to_string();
    assert!(
        error.contains("open_to_all") && error.contains("0.0.0.0"),
        "{error}"
    );
    assert!(
        monitor
            .clone()
            .read_only()
            .serve("0.0.0.0:0")
            .await
            .is_err(),
        "payloads are seen"
    );
    let served = monitor.clone().open_to_all().serve("0.0.0.0:0").await;
    served.expect("meant").shutdown().await;
    let guarded = monitor
        .user("ada", "secret", Role::Admin)
        .expect("a password");
    guarded
        .serve("0.0.0.0:0")
        .await
        .expect("guarded")
        .shutdown()
        .await;
}

#[tokio::test]
async fn a_hash_of_argon2_is_a_password_too() {
    let error = Monitor::new(MemoryBroker::new()).user("ada", "$argon2id$nonsense", Role::Admin);
    let error = error.expect_err("no hash").to_string();
    assert!(
        error.contains("`ada`") && error.contains("$argon2id$v=19"),
        "{error}"
    );
    let site = Site::of(|monitor| monitor.user("ada", HASH, Role::Admin).expect("a hash")).await;
    for (password, status) in [("secret", 200), ("wrong", 401), (HASH, 401)] {
        let request = site
            .client
            .get(site.url("/"))
            .basic_auth("ada", Some(password));
        assert_eq!(
            request.send().await.expect("an answer").status(),
            status,
            "{password}"
        );
    }
}

/// A layer of the program's own that knows who someone is.
#[tokio::test]
async fn a_layer_of_the_programs_own_tells_who_someone_is() {
    let broker = MemoryBroker::new();
    let monitor = Monitor::new(broker)
        .user("ada", "secret", Role::Admin)
        .expect("a password");
    let user = User {
        name: "grace".into(),
        role: Role::Viewer,
    };
    let app: axum::Router = axum::Router::new()
        .nest("/ops", monitor.router())
        .layer(axum::Extension(user));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    let answer = reqwest::get(format!("http://{address}/ops"))
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 200);
    let page = answer.text().await.expect("text");
    assert!(
        page.contains("grace") && page.contains("may look only"),
        "{page}"
    );
}

#[tokio::test]
async fn a_configuration_serves_it_or_says_what_is_missing() {
    let serve = async |monitoring: &Monitoring| {
        Monitor::serve_configured(MemoryBroker::new(), monitoring).await
    };
    let mut monitoring = Monitoring::default();
    monitoring.port = Some(0);
    monitoring.path = Some("/monitoring".into());
    assert!(serve(&monitoring).await.expect("not asked for").is_none());
    monitoring.enable = Some(true);
    let endpoint = serve(&monitoring).await.expect("served").expect("enabled");
    assert!(endpoint.address().ip().is_loopback());
    let url = format!("http://{}/monitoring", endpoint.address());
    assert_eq!(reqwest::get(url).await.expect("an answer").status(), 200);
    endpoint.shutdown().await;
    monitoring.host = Some("0.0.0.0".into());
    let error = serve(&monitoring).await.expect_err("open to all");
    assert!(error.to_string().contains("add a user"), "{error}");
    monitoring.username = Some("ada".into());
    let error = serve(&monitoring).await.expect_err("no password");
    assert_eq!(
        error.to_string(),
        "`monitoring.username`: set `monitoring.password` too"
    );
    monitoring.password = Some(Password::new("hunter2"));
    let account = Account::new("hunter3", AccountRole::Viewer);
    monitoring.users = [("ada".into(), account)].into();
    let error = serve(&monitoring).await.expect_err("twice").to_string();
    assert!(error.starts_with("`monitoring.users.ada`: "), "{error}");
    assert!(!error.contains("hunter"), "{error}");
}

#[tokio::test]
async fn a_configuration_has_accounts_with_roles_and_with_passwords_or_their_hashes() {
    let toml = format!(
        "addr = 'memory:'\n[monitoring]\nenable = true\nport = 0\nusername = 'ada'\npassword = 'secret'\n\
         [monitoring.users]\ngrace = {{ password = '{HASH}', role = 'admin' }}\nguest = {{ password = 'guest' }}\n"
    );
    let config = Config::from_toml(&toml).expect("valid");
    assert!(!format!("{config:?}").contains("secret"));
    let endpoint = Monitor::serve_configured(MemoryBroker::new(), &config.monitoring);
    let endpoint = endpoint.await.expect("served").expect("enabled");
    assert!(
        endpoint.address().ip().is_loopback(),
        "accounts open no address"
    );
    let url = format!("http://{}/", endpoint.address());
    let client = reqwest::Client::new();
    for (name, password, may) in [
        ("ada", "secret", "change"),
        ("grace", "secret", "change"),
        ("guest", "guest", "look"),
        ("guest", "secret", "nothing"),
    ] {
        let look = client.get(&url).basic_auth(name, Some(password));
        let look = look.send().await.expect("an answer").status();
        let change = client.post(format!("{url}api/queues/mail/pause"));
        let change = change.basic_auth(name, Some(password));
        let change = change.send().await.expect("an answer").status();
        let expected = match may {
            "change" => (200, false),
            "look" => (200, true),
            _ => (401, false),
        };
        assert_eq!((look.as_u16(), change == 403), expected, "{name}");
    }
    endpoint.shutdown().await;
}

#[tokio::test]
async fn redacted_fields_are_not_shown_or_found_and_an_edit_keeps_them() {
    let site = Site::of(|monitor| monitor.redact(["TO"])).await;
    for path in [
        "/queues/mail/tasks/scheduled",
        "/queues/mail?state=scheduled",
    ] {
        let page = site.page(path).await;
        assert!(
            page.contains("[redacted]") && !page.contains("&quot;ada"),
            "{page}"
        );
    }
    let page = site
        .page("/queues/mail?state=scheduled&filter=payload~ada")
        .await;
    assert!(page.contains("No task matches."), "{page}");
    let form = "state=scheduled&which=chosen&back=task&do=edit&id=scheduled&payload=";
    let (_, to) = site
        .post(
            "/queues/mail/tasks",
            &format!("{form}%7B%22to%22%3A%22[redacted]%22%7D"),
        )
        .await;
    assert!(to.contains("did=1%20task%20changed."), "{to}");
    let info = site.task("scheduled").await;
    assert_eq!(site.inspector.payload(&info).to_string(), r#"{"to":"ada"}"#);
    let (_, to) = site
        .post(
            "/queues/mail/tasks",
            &format!("{form}%5B%7B%22to%22%3A%22[redacted]%22%7D%5D"),
        )
        .await;
    assert!(to.contains("%60to%60%20is%20redacted"), "{to}");
}

/// What was logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("unpoisoned").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn each_change_is_a_line_for_audits_that_names_who_did_it() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false);
    let subscriber = subscriber.with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let site = guarded().await;
    let post = async |path: &str, form: &str| {
        let request = site.form(path, form).basic_auth("ada", Some("secret"));
        let status = request.send().await.expect("an answer").status();
        assert!(
            status.is_redirection() || status.is_success(),
            "{path}: {status}"
        );
    };
    post("/queues/mail/act", "do=pause").await;
    let form = "state=retry&which=chosen&do=archive&id=retry";
    post("/queues/mail/tasks", form).await;
    post("/queues/mail/tasks", "state=archived&which=all&do=delete").await;
    site.until(TaskState::Archived, 0).await;
    post("/jobs/1", "").await;
    post("/api/queues/mail/resume", "").await;
    let _server = site.serve("worker-1").await;
    post("/servers", "do=quiet&server=worker-1").await;
    post("/api/servers/worker-1/resume", "").await;
    let log = log.0.lock().expect("unpoisoned").clone();
    let log = String::from_utf8(log).expect("UTF-8");
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("asynqueue::audit"))
        .collect();
    for parts in [
        ["action=\"pause\" on=\"mail\"", "mail is paused."],
        ["action=\"archive\" on=\"mail\"", "1 task archived."],
        [
            "action=\"begin\" on=\"job 1\"",
            "Deleting all archived tasks",
        ],
        ["a job of the monitor has ended", "2 tasks deleted"],
        ["action=\"stop\" on=\"job 1\"", ""],
        ["action=\"resume\" on=\"mail\"", "resumed"],
        ["action=\"quiet\" on=\"worker-1\"", "worker-1 stops leasing"],
        ["action=\"resume\" on=\"worker-1\"", "asked to lease again"],
    ] {
        let is_told = |line: &&&str| parts.iter().all(|part| line.contains(part));
        let line = lines.iter().find(is_told);
        let line = line.unwrap_or_else(|| panic!("{parts:?}: {log}"));
        assert!(line.contains("user=\"ada\""), "{line}");
    }
}
