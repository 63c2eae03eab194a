//! Authentication and permissions.

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

/// `secret`, hashed by `argon2 somesaltsomesalt -id -k 16 -t 2 -p 1 -e`.
const HASH: &str = "$argon2id$v=19$m=16,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$E/SQMa+uT8S7798KgxD+hQxeFkYTta8dSdtQhFJv8GA";

/// The same with `-k 4096`, which makes verification slow.
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
async fn requests_without_the_password_are_rejected() {
    let site = guarded().await;
    let (status, text) = site.get("/").await;
    assert_eq!((status, &*text), (401, "authentication required\n"));
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
        let response = request.send().await.expect("a response");
        assert_eq!(response.status(), 401, "{name}");
        assert!(response.headers().contains_key("www-authenticate"));
        assert!(!response.text().await.expect("text").contains("archived"));
    }
    let request = site
        .client
        .get(site.url("/"))
        .basic_auth("ada", Some("secret"));
    assert_eq!(request.send().await.expect("a response").status(), 200);
    for path in ["/live", "/nowhere", "/api/queues", "/assets"] {
        assert_eq!(site.get(path).await.0, 401, "{path}");
    }
}

#[tokio::test]
async fn password_guessing_is_throttled_and_authenticated_users_are_not() {
    let site = guarded().await;
    let get = async |password: &str| {
        let request = site
            .client
            .get(site.url("/"))
            .basic_auth("ada", Some(password));
        request.send().await.expect("a response")
    };
    assert_eq!(get("secret").await.status(), 200);
    for n in 0..10 {
        assert_eq!(get(&format!("guess {n}")).await.status(), 401);
    }
    let response = get("guess again").await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(get("secret").await.status(), 200);
}

/// Concurrent guesses do not get around the limit.
#[tokio::test]
async fn concurrent_guesses_are_throttled_and_concurrent_logins_are_not() {
    let slow = |monitor: Monitor| monitor.user("ada", SLOW_HASH, Role::Admin).expect("a hash");
    let site = Site::of(slow).await;
    let get = async |password: String| {
        let request = site.client.get(site.url("/settings"));
        let request = request.basic_auth("ada", Some(password));
        request.send().await.expect("a response").status().as_u16()
    };
    let right = (0..40).map(|_| get("secret".into()));
    let right = futures_util::future::join_all(right).await;
    assert!(right.iter().all(|status| *status == 200), "{right:?}");
    let guesses = (0..100).map(|n| get(format!("guess {n}")));
    let guesses = futures_util::future::join_all(guesses).await;
    let tried = guesses.iter().filter(|status| **status == 401).count();
    assert!((10..15).contains(&tried), "{guesses:?}");
}

/// DNS rebinding: the host name of another site resolves to this machine.
#[tokio::test]
async fn without_passwords_only_local_host_names_are_accepted() {
    let status = async |site: &Site, host: &str| {
        let request = site
            .client
            .get(site.url("/api/queues"))
            .header("host", host);
        request.send().await.expect("a response").status().as_u16()
    };
    let open = Site::new().await;
    assert_eq!(status(&open, "evil.example:8089").await, 421);
    assert_eq!(status(&open, "localhost:8089").await, 200);
    assert_eq!(open.get("/").await.0, 200);
    assert_eq!(status(&guarded().await, "ops.example").await, 401);
    let open_to_all = Site::of(Monitor::open_to_all).await;
    assert_eq!(status(&open_to_all, "ops.example").await, 200);
}

/// An unset variable is an empty password.
#[test]
fn a_user_without_a_name_or_a_password_is_rejected() {
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
        .expect("a response")
        .text()
        .await
        .expect("text");
    assert!(
        page.contains("archived") && !page.contains("<button name=\"do\""),
        "{page}"
    );
    let request = site.form("/queues/mail/tasks", "state=archived&which=all&do=delete");
    let request = request.basic_auth("guest", Some("guest"));
    assert_eq!(request.send().await.expect("a response").status(), 403);
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

/// Cross-site request forgery.
#[tokio::test]
async fn cross_site_changes_are_rejected() {
    let site = Site::new().await;
    let post = async |name: &'static str, value: &str| {
        let request = site.form("/queues/mail/tasks", "state=archived&which=all&do=delete");
        let request = request.header(name, value);
        request.send().await.expect("a response").status().as_u16()
    };
    assert_eq!(post("sec-fetch-site", "cross-site").await, 403);
    assert_eq!(post("origin", "https://evil.example").await, 403);
    assert_eq!(site.count(TaskState::Archived).await, 1);
    assert_eq!(post("origin", &site.url("")).await, 303);
    site.until(TaskState::Archived, 0).await;
}

#[tokio::test]
async fn responses_allow_browsers_to_run_only_the_script_of_the_monitor() {
    let site = guarded().await;
    let response = site
        .client
        .get(site.url("/"))
        .send()
        .await
        .expect("a response");
    let policy = response.headers()["content-security-policy"]
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
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let page = Site::new().await.page("/queues/mail").await;
    assert!(
        !page.contains(" style=") && !page.contains(" onclick="),
        "{page}"
    );
}

#[tokio::test]
async fn other_machines_need_a_password_or_open_to_all() {
    let monitor = Monitor::new(MemoryBroker::new());
    let error = monitor
        .serve("0.0.0.0:0")
        .await
        .expect_err("unguarded")
        .to_string();
    assert!(
        error.starts_with("the monitor on 0.0.0.0:")
            && error.ends_with(
                " would give full access to anyone who can reach it: add a user, or set `open_to_all` if this is intended"
            ),
        "{error}"
    );
    assert!(
        monitor
            .clone()
            .read_only()
            .serve("0.0.0.0:0")
            .await
            .is_err(),
        "payloads would be visible"
    );
    let served = monitor.clone().open_to_all().serve("0.0.0.0:0").await;
    served.expect("allowed").shutdown().await;
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
async fn a_password_may_be_an_argon2_hash() {
    let error = Monitor::new(MemoryBroker::new()).user("ada", "$argon2id$nonsense", Role::Admin);
    let error = error.expect_err("no hash").to_string();
    assert!(
        error.contains("`ada`") && error.contains("$argon2id$v=19"),
        "{error}"
    );
    let (without_output, output) = HASH.rsplit_once('$').expect("an output");
    for unusable in [
        without_output.to_owned(),
        "$argon2id$v=19$SECRETbroken".to_owned(),
        "$argon2id$v=19$m=16,t=2,p=1".to_owned(),
        HASH.replace("argon2id", "argon2x"),
        HASH.replace("v=19", "v=3"),
        HASH.replace("m=16", "m=1"),
        HASH.replace(output, "short"),
    ] {
        let error = Monitor::new(MemoryBroker::new()).user("ada", &unusable, Role::Admin);
        let error = error.expect_err(&unusable).to_string();
        let start = "the password of `ada` is an invalid argon2 hash: ";
        assert!(error.starts_with(start), "{error}");
        assert!(!error.contains("SECRET"), "{error}");
        assert!(!error.contains("c29tZXNhbHRzb21lc2FsdA"), "{error}");
    }
    let site = Site::of(|monitor| monitor.user("ada", HASH, Role::Admin).expect("a hash")).await;
    for (password, status) in [("secret", 200), ("wrong", 401), (HASH, 401)] {
        let request = site
            .client
            .get(site.url("/"))
            .basic_auth("ada", Some(password));
        assert_eq!(
            request.send().await.expect("a response").status(),
            status,
            "{password}"
        );
    }
}

#[test]
fn a_hash_that_is_not_argon2_is_refused() {
    let add = |password: &str| Monitor::new(MemoryBroker::new()).user("bob", password, Role::Admin);
    for hash in [
        "$2b$12$SECRET",
        "$5$SECRET$SECRET",
        "$6$rounds=5000$SECRET",
        "$apr1$SECRET$SECRET",
        "$pbkdf2-sha256$i=600000$SECRET",
        "{SHA}SECRET",
        "{PBKDF2-SHA256}SECRET",
    ] {
        assert_eq!(
            add(hash).expect_err(hash).to_string(),
            "the password of `bob` looks like a hash that is not argon2: expected `$argon2id$…` or a plain password"
        );
    }
    for plain in [
        "$ecret",
        "$$",
        "5$a$b",
        "$a b$c",
        "{}x",
        "{a",
        "{secret}x",
        "$2b$",
    ] {
        add(plain).expect(plain);
    }
}

#[tokio::test]
async fn a_layer_of_the_program_provides_the_user() {
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
    let response = reqwest::get(format!("http://{address}/ops"))
        .await
        .expect("a response");
    assert_eq!(response.status(), 200);
    let page = response.text().await.expect("text");
    assert!(
        page.contains("grace") && page.contains("grace, read-only access: open settings"),
        "{page}"
    );
}

#[tokio::test]
async fn a_configuration_serves_the_monitor_or_names_what_is_missing() {
    let serve = async |monitoring: &Monitoring| {
        Monitor::serve_configured(MemoryBroker::new(), monitoring).await
    };
    let mut monitoring = Monitoring::default();
    monitoring.port = Some(0);
    monitoring.path = Some("/monitoring".into());
    assert!(serve(&monitoring).await.expect("not enabled").is_none());
    monitoring.enable = Some(true);
    let endpoint = serve(&monitoring).await.expect("served").expect("enabled");
    assert!(endpoint.address().ip().is_loopback());
    let url = format!("http://{}/monitoring", endpoint.address());
    assert_eq!(reqwest::get(url).await.expect("a response").status(), 200);
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
async fn a_configuration_defines_users_with_roles_and_passwords_or_hashes() {
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
        "users do not change the address"
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
        let look = look.send().await.expect("a response").status();
        let change = client.post(format!("{url}api/queues/mail/pause"));
        let change = change.basic_auth(name, Some(password));
        let change = change.send().await.expect("a response").status();
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
async fn redacted_fields_are_neither_shown_nor_found_and_survive_an_edit() {
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
    assert!(page.contains("No matching tasks."), "{page}");
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

/// The log of this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn each_change_is_written_to_the_audit_log_with_its_user() {
    let log = Log::default();
    let writer = log.clone();
    // With one subscriber in the process, a line that another thread reaches first is disabled for all of them.
    let unread = tracing_subscriber::fmt().with_writer(io::sink).finish();
    let _other = tracing::Dispatch::new(unread);
    let subscriber = tracing_subscriber::fmt().with_ansi(false);
    let subscriber = subscriber.with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let site = guarded().await;
    let post = async |path: &str, form: &str| {
        let request = site.form(path, form).basic_auth("ada", Some("secret"));
        let status = request.send().await.expect("a response").status();
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
    let jobs = site
        .client
        .get(site.url("/api/jobs"))
        .basic_auth("ada", Some("secret"));
    let jobs = jobs
        .send()
        .await
        .expect("a response")
        .json::<serde_json::Value>();
    let jobs = jobs.await.expect("JSON");
    let job = jobs[0]["id"].as_str().expect("an id");
    let on_job = format!("on=\"job {job}\"");
    post(&format!("/jobs/{job}"), "").await;
    post("/api/queues/mail/resume", "").await;
    let _server = site.serve("worker-1").await;
    post("/servers", "do=quiet&server=worker-1").await;
    post("/api/servers/worker-1/resume", "").await;
    let log = log.0.lock().expect("not poisoned").clone();
    let log = String::from_utf8(log).expect("UTF-8");
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("asynqueue::audit"))
        .collect();
    for parts in [
        ["action=\"pause\" on=\"mail\"", "Queue mail paused."],
        ["action=\"archive\" on=\"mail\"", "1 task archived."],
        [
            &format!("action=\"start\" {on_job}"),
            "Deleting all archived tasks",
        ],
        ["job ended", "2 tasks deleted"],
        [&format!("action=\"stop\" {on_job}"), ""],
        ["action=\"resume\" on=\"mail\"", "resumed"],
        ["action=\"quiet\" on=\"worker-1\"", "worker-1 stops leasing"],
        ["action=\"resume\" on=\"worker-1\"", "resume requested"],
    ] {
        let matches = |line: &&&str| parts.iter().all(|part| line.contains(part));
        let line = lines.iter().find(matches);
        let line = line.unwrap_or_else(|| panic!("{parts:?}: {log}"));
        assert_eq!(
            lines.iter().filter(|other| matches(other)).count(),
            1,
            "{log}"
        );
        assert!(line.contains("user=\"ada\""), "{line}");
    }
}
