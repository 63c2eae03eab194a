//! Settings from text: their effects and their errors.

#![cfg(feature = "config")]

use std::time::Duration;

use asynqueue_core::{
    config::{Account, AccountRole, Config, Password},
    memory::MemoryBroker,
    process::{Context, OnDecodeError, Payload, TaskError},
    server::{Server, ServerError},
    task::Task as _,
};
use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "nap", crate = asynqueue_core)]
struct Nap;

async fn nap(_: Payload<Nap>, _: Context) -> Result<(), TaskError> {
    Ok(())
}

fn refused_toml(rest: &str) -> String {
    let toml = format!("addr = 'memory:'\n{rest}");
    Config::from_toml(&toml).expect_err(rest).to_string()
}

const EVERY_KEY: &str = r#"
    addr = "memory:"
    server_name = "worker-1"
    concurrency = 64
    strict_priority = true
    lease = "1m"
    poll_interval = "250ms"
    shutdown_timeout = "1h30m"
    cancel_grace = "0s"
    max_result = 4096
    max_abandoned = 0
    archived_max = 1000
    archived_for = "7d"
    log_failures = false
    unknown_event_grace = "2h"
    on_decode_error = "archive"

    [queue]
    critical = 6
    "user:42" = 1
    "a.b" = 2

    [queue_concurrency]
    critical = 8

    [scheduler]
    enable = true
    file = "schedule.toml"
    owner = "shop"

    [metrics]
    address = "127.0.0.1:9464"
    max_queues = 50

    [monitoring]
    enable = true
    host = "0.0.0.0"
    path = "/tasks"
    base = "/ops"
    port = 9000
    name = "production"
    title = "Shop"
    color = "red"
    username = "ada"
    password = "secret"
    users.guest = { password = "$argon2id$…", role = "viewer" }
    read_only = true
    redact = ["password", "iban"]
    grace = "2s"
    open_to_all = true
    prometheus = "http://prometheus:9090"
"#;

const EVERY_KEY_IN_JSON: &str = r#"{
    "addr": "memory:", "server_name": "worker-1", "concurrency": 64, "strict_priority": true, "lease": "1m",
    "poll_interval": "250ms", "shutdown_timeout": "1h30m", "cancel_grace": "0s", "max_result": 4096, "max_abandoned": 0,
    "archived_max": 1000, "archived_for": "7d", "log_failures": false, "unknown_event_grace": "2h",
    "on_decode_error": "archive",
    "queue": {"critical": 6, "user:42": 1, "a.b": 2}, "queue_concurrency": {"critical": 8},
    "scheduler": {"enable": true, "file": "schedule.toml", "owner": "shop"},
    "metrics": {"address": "127.0.0.1:9464", "max_queues": 50},
    "monitoring": {"enable": true, "host": "0.0.0.0", "path": "/tasks", "base": "/ops", "port": 9000,
        "name": "production", "title": "Shop", "color": "red", "username": "ada",
        "password": "secret", "users": {"guest": {"password": "$argon2id$…", "role": "viewer"}}, "read_only": true,
        "redact": ["password", "iban"], "grace": "2s", "open_to_all": true, "prometheus": "http://prometheus:9090"}
}"#;

#[test]
fn every_key_is_read_in_both_formats() {
    let mut expected = Config::new("memory:");
    expected.server_name = Some("worker-1".into());
    expected.concurrency = Some(64);
    expected.strict_priority = Some(true);
    expected.lease = Some(Duration::from_secs(60));
    expected.poll_interval = Some(Duration::from_millis(250));
    expected.shutdown_timeout = Some(Duration::from_secs(90 * 60));
    expected.cancel_grace = Some(Duration::ZERO);
    expected.max_result = Some(4096);
    expected.max_abandoned = Some(0);
    expected.archived_max = Some(1000);
    expected.archived_for = Some(Duration::from_secs(7 * 24 * 3600));
    expected.log_failures = Some(false);
    expected.unknown_event_grace = Some(Duration::from_secs(2 * 3600));
    expected.on_decode_error = Some(OnDecodeError::Archive);
    expected.queue = [("critical", 6), ("user:42", 1), ("a.b", 2)]
        .map(|(queue, weight)| (queue.into(), weight))
        .into();
    expected.queue_concurrency = [("critical".into(), 8)].into();
    expected.scheduler.enable = Some(true);
    expected.scheduler.file = Some("schedule.toml".into());
    expected.scheduler.owner = Some("shop".into());
    expected.metrics.address = Some("127.0.0.1:9464".into());
    expected.metrics.max_queues = Some(50);
    let monitoring = &mut expected.monitoring;
    monitoring.enable = Some(true);
    monitoring.host = Some("0.0.0.0".into());
    monitoring.path = Some("/tasks".into());
    monitoring.base = Some("/ops".into());
    monitoring.port = Some(9000);
    monitoring.name = Some("production".into());
    monitoring.title = Some("Shop".into());
    monitoring.color = Some("red".into());
    monitoring.username = Some("ada".into());
    monitoring.password = Some(Password::new("secret"));
    let guest = Account::new("$argon2id$…", AccountRole::Viewer);
    monitoring.users = [("guest".into(), guest)].into();
    monitoring.read_only = Some(true);
    monitoring.redact = Some(vec!["password".into(), "iban".into()]);
    monitoring.grace = Some(Duration::from_secs(2));
    monitoring.open_to_all = Some(true);
    monitoring.prometheus = Some("http://prometheus:9090".into());
    assert_eq!(Config::from_toml(EVERY_KEY).expect("valid"), expected);
    assert_eq!(
        Config::from_json(EVERY_KEY_IN_JSON).expect("valid"),
        expected
    );
    assert_eq!(
        serde_json::from_str::<Config>(EVERY_KEY_IN_JSON).expect("valid"),
        expected
    );
}

#[test]
fn an_unknown_key_is_reported_with_its_line_and_a_suggestion() {
    for (toml, problem) in [
        (
            "concurency = 8",
            "invalid settings in the TOML, line 2, column 1: `concurency`: unknown key: did you mean `concurrency`?",
        ),
        (
            "[monitoring]\nprt = 8",
            "line 3, column 1: `monitoring.prt`: unknown key: did you mean `port`?",
        ),
        (
            "[monitoring.users.ada]\nsecret = 'x'",
            "line 3, column 1: `monitoring.users.ada.secret`: unknown key: expected one of `password`, `role`",
        ),
        (
            "a_name_of_its_own = 8",
            "`a_name_of_its_own`: unknown key: expected one of `addr`, `server_name`, `concurrency`",
        ),
    ] {
        let error = refused_toml(toml);
        assert!(error.contains(problem), "{error}");
    }
    let error = Config::from_json("{\n  \"addr\": \"memory:\",\n  \"concurency\": 8\n}");
    assert_eq!(
        error.expect_err("unknown").to_string(),
        "invalid settings in the JSON, line 3, column 17: `concurency`: unknown key: did you mean `concurrency`?"
    );
}

#[test]
fn an_invalid_value_is_reported_with_its_key_line_and_expected_value() {
    for (toml, key, problem) in [
        (
            "concurrency = 'many'",
            "concurrency",
            "expected a whole number from 1 to",
        ),
        (
            "concurrency = 8.5",
            "concurrency",
            "floating point `8.5`, expected a whole number",
        ),
        (
            "concurrency = 0",
            "concurrency",
            "integer `0`, expected a whole number from 1 to",
        ),
        (
            "concurrency = -1",
            "concurrency",
            "integer `-1`, expected a whole number from 1 to",
        ),
        (
            "strict_priority = 1",
            "strict_priority",
            "integer `1`, expected `true` or `false`",
        ),
        ("queue = 'critical'", "queue", "type: text, expected a map"),
        (
            "queue.critical = 0",
            "queue.critical",
            "expected a whole number from 1 to 4294967295",
        ),
        ("queue.'a b' = 1", "queue.a b", "invalid queue name `a b`"),
        (
            "queue_concurrency.a = 0",
            "queue_concurrency.a",
            "expected a whole number from 1",
        ),
        (
            "lease = 30",
            "lease",
            "integer `30`, expected a duration in quotes and with its unit",
        ),
        (
            "lease = '30'",
            "lease",
            "`30` is not a duration: `30` has no unit; write `30s`",
        ),
        ("lease = '1.5h'", "lease", "write `1h30m` instead of `1.5h`"),
        (
            "lease = '0s'",
            "lease",
            "0ns is too short: expected at least 30ms",
        ),
        (
            "poll_interval = '0ms'",
            "poll_interval",
            "0ns is too short: expected at least 1ms",
        ),
        (
            "on_decode_error = 'drop'",
            "on_decode_error",
            "string \"drop\", expected \"retry\" or \"archive\"",
        ),
        (
            "cancel_grace = true",
            "cancel_grace",
            "boolean `true`, expected a duration",
        ),
        (
            "max_result = 0",
            "max_result",
            "expected a whole number from 1",
        ),
        (
            "monitoring.port = 70000",
            "monitoring.port",
            "expected a whole number from 0 to 65535",
        ),
        (
            "monitoring.users.ada.role = 'boss'",
            "monitoring.users.ada.role",
            "string \"boss\", expected \"viewer\" or \"admin\"",
        ),
        (
            "monitoring.users.ada = 'hunter2'",
            "monitoring.users.ada",
            "type: text, expected a table with `password` and `role`",
        ),
        (
            "monitoring.redact = ['a', 5]",
            "monitoring.redact",
            "integer `5`, expected a string",
        ),
        (
            "metrics.address = '9464'",
            "metrics.address",
            "expected a host and a port, such as `127.0.0.1:9464`",
        ),
        (
            "monitoring.path = 'tasks'",
            "monitoring.path",
            "expected a path that starts with `/`",
        ),
        (
            "monitoring.enable = 'on'",
            "monitoring.enable",
            "expected `true` or `false`",
        ),
        ("monitoring = 1", "monitoring", "a number, expected a table"),
    ] {
        let error = refused_toml(toml);
        let start = "invalid settings in the TOML, line 2, column ";
        assert!(error.starts_with(start), "{toml}: {error}");
        assert!(error.contains(&format!(": `{key}`: ")), "{toml}: {error}");
        assert!(error.contains(problem), "{toml}: {error}");
        assert!(!error.contains("hunter2"), "{toml}: {error}");
    }
}

#[test]
fn an_address_is_required() {
    let problem = "`addr` is missing: set it to the broker's URL, such as `memory:`, or set the variable \
                   `ASYNQUEUE_ADDR`";
    for error in [
        Config::from_toml("").expect_err("no address"),
        Config::default()
            .with_environment()
            .expect_err("no address"),
    ] {
        let error = error.to_string();
        assert!(error.ends_with(problem), "{error}");
    }
}

#[test]
fn text_in_another_format_is_refused_at_its_start() {
    let error = Config::from_json("addr = 'memory:'").expect_err("not JSON");
    assert_eq!(
        error.to_string(),
        "invalid settings in the JSON, line 1, column 1: expected value"
    );
    let error = Config::from_toml("{\"addr\": 1}").expect_err("not TOML");
    let error = error.to_string();
    assert!(
        error.starts_with("invalid settings in the TOML, line 1, column 1: "),
        "{error}"
    );
}

#[test]
fn a_line_that_is_not_toml_is_not_quoted() {
    let error = Config::from_toml("addr = 'memory:'\n[monitoring]\npassword = hunter2\n");
    let error = error.expect_err("not TOML").to_string();
    assert!(error.contains("line 3, column 12"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn files_are_read_by_their_extension_and_named_in_errors() {
    let read = |path: &str| Config::from_file(path).expect_err(path).to_string();
    assert_eq!(
        read("tasks.yaml"),
        "`tasks.yaml` has an unknown format: expected a file name that ends in `.toml` or `.json`"
    );
    let missing = read("no/such.toml");
    let start = "cannot read the settings in `no/such.toml`: ";
    assert!(missing.starts_with(start), "{missing}");

    let path = std::env::temp_dir().join(format!("asynqueue-{}.toml", std::process::id()));
    std::fs::write(&path, "addr = 'memory:'\n\n  lease = '5'\n").expect("a writable directory");
    let error = Config::load(Some(&path)).expect_err("no unit").to_string();
    std::fs::remove_file(&path).expect("it was there");
    let place = format!("`{}`, line 3, column 11: `lease`: `5`", path.display());
    assert!(error.contains(&place), "{error}");
}

/// Sets variables only for a second run of this test, because they apply to the entire process.
#[test]
fn the_environment_is_read() {
    if std::env::var_os("ASYNQUEUE_ADDR").is_some() {
        let config = Config::load(None).expect("valid");
        assert_eq!(
            (config.addr.as_str(), config.concurrency),
            ("memory:", Some(7))
        );
        embedded_settings_have_the_environment();
        return;
    }
    let this = std::env::current_exe().expect("the path of this test");
    let second = std::process::Command::new(this)
        .args(["--exact", "the_environment_is_read"])
        .envs([
            ("ASYNQUEUE_ADDR", "memory:"),
            ("ASYNQUEUE_CONCURRENCY", "7"),
            // Not settings: variables of the `asynqueue` command, and of Kubernetes for a Service of this name.
            ("ASYNQUEUE_MONITOR_PASSWORD", "x"),
            ("ASYNQUEUE_SERVICE_HOST", "10.0.0.1"),
            ("ASYNQUEUE_PORT", "tcp://10.0.0.1:6379"),
            ("ASYNQUEUE_PORT_6379_TCP_ADDR", "10.0.0.1"),
        ])
        .output()
        .expect("runs");
    assert!(
        second.status.success(),
        "{}",
        String::from_utf8_lossy(&second.stdout)
    );
}

/// Runs in a process whose environment sets the address and the concurrency.
fn embedded_settings_have_the_environment() {
    #[derive(Deserialize)]
    struct Nested {
        greeting: String,
        tasks: Config,
    }
    let nested = r#"{"greeting": "Hello", "tasks": {"concurrency": 2, "lease": "1m"}}"#;
    let nested: Nested = serde_json::from_str(nested).expect("valid");
    assert_eq!(nested.greeting, "Hello");

    #[derive(Deserialize)]
    struct Flat {
        greeting: String,
        #[serde(flatten)]
        tasks: Config,
    }
    let flat = r#"{"greeting": "Hello", "concurrency": 2, "lease": "1m"}"#;
    let flat: Flat = serde_json::from_str(flat).expect("valid");
    assert_eq!(flat.greeting, "Hello");

    for tasks in [nested.tasks, flat.tasks] {
        assert_eq!((tasks.addr.as_str(), tasks.concurrency), ("", Some(2)));
        let tasks = tasks.with_environment().expect("valid");
        assert_eq!(
            (tasks.addr.as_str(), tasks.concurrency, tasks.lease),
            ("memory:", Some(7), Some(Duration::from_secs(60)))
        );
    }
}

#[test]
fn secrets_are_not_shown() {
    let mut config = Config::new("redis://ada:hunter2@localhost");
    config.monitoring.password = Some(Password::new("hunter3"));
    config.monitoring.prometheus = Some("http://ada:hunter4@prometheus".into());
    let guest = Account::new("hunter5", AccountRole::Viewer);
    config.monitoring.users = [("guest".into(), guest)].into();
    let shown = format!("{config:?}");
    assert!(shown.contains("addr: redis:…"), "{shown}");
    assert!(!shown.contains("hunter"), "{shown}");
    let error = refused_toml("monitoring.password = 1234");
    assert!(
        error.contains("`monitoring.password`: expected a password as text: put it in quotes"),
        "{error}"
    );
    assert!(!error.contains("1234"), "{error}");
}

#[tokio::test]
async fn a_server_applies_the_settings() {
    let config = Config::from_toml("addr = 'memory:'\nconcurrency = 3\nqueue.default = 1");
    let config = config.expect("valid");
    let builder = || Server::builder(MemoryBroker::new()).process(nap);
    let server = builder().config(&config).start().await.expect("valid");
    tokio::task::yield_now().await;
    assert_eq!(server.stats().slots, 3);
    server.shutdown().await.expect("stops");

    let unset = Config::new("memory:");
    let server = builder()
        .concurrency(5)
        .config(&unset)
        .start()
        .await
        .expect("valid");
    tokio::task::yield_now().await;
    assert_eq!(server.stats().slots, 5, "what it leaves out stays");
    server.shutdown().await.expect("stops");
}

#[test]
fn settings_that_a_server_does_not_support_are_refused() {
    for (toml, section) in [
        ("monitoring.enable = true", "monitoring"),
        ("metrics.address = '127.0.0.1:0'", "metrics"),
        ("scheduler.file = 'schedule.toml'", "scheduler"),
        ("scheduler.enable = true", "scheduler"),
    ] {
        let config = Config::from_toml(&format!("addr = 'memory:'\n{toml}"));
        let mut config = config.expect("valid");
        let build = |config: &Config| {
            let builder = Server::builder(MemoryBroker::new()).process(nap);
            builder.config(config).build()
        };
        let error = build(&config).expect_err(toml);
        assert!(
            matches!(error, ServerError::NeedsApp { section: named, .. } if named == section),
            "{error}"
        );
        let error = error.to_string();
        assert!(error.contains("`App::from_config`"), "{error}");
        config.monitoring = Default::default();
        config.metrics = Default::default();
        config.scheduler = Default::default();
        assert!(build(&config).is_ok());
    }
}

#[test]
fn the_monitor_listens_on_the_loopback_address_unless_a_host_is_given() {
    for (toml, address) in [
        ("", "127.0.0.1:8080"),
        ("username = 'ada'\npassword = 'x'", "127.0.0.1:8080"),
        ("host = '0.0.0.0'\nport = 9000", "0.0.0.0:9000"),
        ("host = '::'", "[::]:8080"),
        ("host = '[::1]'", "[::1]:8080"),
    ] {
        let config = Config::from_toml(&format!("addr = 'memory:'\n[monitoring]\n{toml}"));
        assert_eq!(config.expect(toml).monitoring.address(), address);
    }
}

/// Durations have two parsers: this one, and that of the macros at compile time.
#[test]
fn durations_are_parsed_as_by_the_derive() {
    macro_rules! same {
        ($($name:ident = $text:literal),*) => { $(
            #[derive(Serialize, Deserialize, Task)]
            #[task(event = "same", timeout = $text, crate = asynqueue_core)]
            struct $name;
            let config = Config::from_toml(&format!("addr = 'memory:'\nlease = '{}'", $text));
            assert_eq!(config.expect($text).lease, Some($name::options().timeout));
        )* };
    }
    same!(
        Ms = "250ms",
        S = "30s",
        M = "5m",
        H = "1h30m",
        D = "1d",
        W = "2w1d1h1m1s1ms"
    );
}

/// It may be a password in the wrong place.
#[test]
fn a_value_in_place_of_a_table_is_refused_and_not_quoted() {
    for (line, part) in [
        ("monitoring = 'hunter2'", "`monitoring`: invalid type: text"),
        ("monitoring = 12345", "`monitoring`: invalid type: a number"),
        (
            "metrics = ['127.0.0.1:9464']",
            "`metrics`: invalid type: a list",
        ),
        ("monitoring.users.ada = 'hunter2'", "invalid type: text"),
        (
            "monitoring.users.ada = ['hunter2', 'admin']",
            "invalid type: a list",
        ),
    ] {
        let error = Config::from_toml(&format!("addr = 'memory:'\n{line}\n"));
        let error = error.expect_err(line).to_string();
        assert!(error.contains(part), "{line}: {error}");
        let is_quoted = ["hunter2", "12345", "9464"]
            .iter()
            .any(|secret| error.contains(secret));
        assert!(!is_quoted, "{error}");
    }
}
