//! Settings from text: what they set, and how what is wrong with them is said.

#![cfg(feature = "config")]

use std::time::Duration;

use asynqueue_core::{
    config::{Config, Password},
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

#[test]
fn every_key_is_read_in_both_formats() {
    let toml = r#"
        addr = "memory:"
        concurrency = 64
        strict_priority = true
        lease = "1m"
        poll_interval = "250ms"
        shutdown_timeout = "1h30m"
        cancel_grace = "0s"
        max_result = 4096
        log_failures = false
        unknown_event_grace = "2h"
        on_decode_error = "archive"

        [queue]
        critical = 6
        "user:42" = 1
        "a.b" = 2

        [queue_concurrency]
        critical = 8

        [monitoring]
        enable = true
        path = "/tasks"
        port = 9000
        username = "ada"
        password = "secret"
    "#;
    let json = r#"{
        "addr": "memory:", "concurrency": 64, "strict_priority": true, "lease": "1m", "poll_interval": "250ms",
        "shutdown_timeout": "1h30m", "cancel_grace": "0s", "max_result": 4096, "log_failures": false,
        "unknown_event_grace": "2h", "on_decode_error": "archive",
        "queue": {"critical": 6, "user:42": 1, "a.b": 2}, "queue_concurrency": {"critical": 8},
        "monitoring": {"enable": true, "path": "/tasks", "port": 9000, "username": "ada", "password": "secret"}
    }"#;
    let mut expected = Config::new("memory:");
    expected.concurrency = Some(64);
    expected.strict_priority = true;
    expected.lease = Some(Duration::from_secs(60));
    expected.poll_interval = Some(Duration::from_millis(250));
    expected.shutdown_timeout = Some(Duration::from_secs(90 * 60));
    expected.cancel_grace = Some(Duration::ZERO);
    expected.max_result = Some(4096);
    expected.log_failures = Some(false);
    expected.unknown_event_grace = Some(Duration::from_secs(2 * 3600));
    expected.on_decode_error = Some(OnDecodeError::Archive);
    expected.queue = [("critical", 6), ("user:42", 1), ("a.b", 2)]
        .map(|(queue, weight)| (queue.into(), weight))
        .into();
    expected.queue_concurrency = [("critical".into(), 8)].into();
    expected.monitoring.enable = true;
    expected.monitoring.path = "/tasks".into();
    expected.monitoring.port = 9000;
    expected.monitoring.username = Some("ada".into());
    expected.monitoring.password = Some(Password::new("secret"));
    assert_eq!(Config::from_toml(toml).expect("valid"), expected);
    assert_eq!(Config::from_json(json).expect("valid"), expected);
    assert_eq!(
        serde_json::from_str::<Config>(json).expect("valid"),
        expected
    );
}

#[test]
fn an_unknown_key_is_named_with_the_known_ones() {
    for (toml, problem) in [
        (
            "concurency = 8",
            "wrong: unknown field `concurency`, expected one of `addr`, `concurrency`, `queue`",
        ),
        (
            "[monitoring]\nprt = 8",
            "`monitoring`: unknown field `prt`, expected one of `enable`, `path`, `port`",
        ),
    ] {
        let error = refused_toml(toml);
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn a_value_that_makes_no_sense_is_named_with_its_key_and_what_was_expected() {
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
        ("queue = 'critical'", "queue", "expected a map"),
        (
            "queue.critical = 0",
            "queue.critical",
            "expected a whole number from 1 to 4294967295",
        ),
        ("queue.'a b' = 1", "queue", "invalid queue name `a b`"),
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
        (
            "lease = '1.5h'",
            "lease",
            "write `1h30m` in place of `1.5h`",
        ),
        (
            "lease = '0s'",
            "lease",
            "0ns is too short: it is at least 30ms",
        ),
        (
            "poll_interval = '0ms'",
            "poll_interval",
            "0ns is too short: it is at least 1ms",
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
            "monitoring.port = 0",
            "monitoring.port",
            "expected a whole number from 1 to 65535",
        ),
        (
            "monitoring.port = 70000",
            "monitoring.port",
            "from 1 to 65535",
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
        (
            "monitoring = 1",
            "monitoring",
            "integer `1`, expected struct Monitoring",
        ),
    ] {
        let error = refused_toml(toml);
        let start = format!("the settings in the TOML are wrong: `{key}`: ");
        assert!(error.starts_with(&start), "{toml}: {error}");
        assert!(error.contains(problem), "{toml}: {error}");
    }
}

#[test]
fn an_address_is_required() {
    assert_eq!(
        Config::from_toml("").expect_err("no address").to_string(),
        "the settings in the TOML are wrong: `addr` is missing: write the broker's URL, such as `memory:`"
    );
}

#[test]
fn text_in_another_format_is_refused() {
    let error = Config::from_json("addr = 'memory:'")
        .expect_err("not JSON")
        .to_string();
    assert!(
        error.starts_with("the settings in the JSON are wrong: expected value at line 1"),
        "{error}"
    );
}

#[test]
fn files_are_read_by_their_ending() {
    let read = |path: &str| Config::from_file(path).expect_err(path).to_string();
    assert_eq!(
        read("tasks.yaml"),
        "`tasks.yaml` is of no known format: name it `….toml` or `….json`"
    );
    assert_eq!(
        read("no/such.toml"),
        "cannot read the settings in `no/such.toml`"
    );
}

/// Sets variables for a second run of this test alone, since they belong to the whole process.
#[test]
fn the_environment_is_read() {
    if std::env::var_os("ASYNQUEUE_ADDR").is_some() {
        let config = Config::load(None).expect("valid");
        assert_eq!(
            (config.addr.as_str(), config.concurrency),
            ("memory:", Some(7))
        );
        return;
    }
    let this = std::env::current_exe().expect("the path of this test");
    let second = std::process::Command::new(this)
        .args(["--exact", "the_environment_is_read"])
        .envs([
            ("ASYNQUEUE_ADDR", "memory:"),
            ("ASYNQUEUE_CONCURRENCY", "7"),
        ])
        .output()
        .expect("runs");
    assert!(
        second.status.success(),
        "{}",
        String::from_utf8_lossy(&second.stdout)
    );
}

#[test]
fn secrets_are_not_shown() {
    let mut config = Config::new("redis://ada:hunter2@localhost");
    config.monitoring.password = Some(Password::new("hunter3"));
    let shown = format!("{config:?}");
    assert!(shown.contains("addr: redis:…"), "{shown}");
    assert!(!shown.contains("hunter"), "{shown}");
    let error = refused_toml("monitoring.password = 1234");
    assert!(
        error.contains("`monitoring.password`: a password is text: put it in quotes"),
        "{error}"
    );
    assert!(!error.contains("1234"), "{error}");
}

#[tokio::test]
async fn a_server_takes_it_over() {
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
fn a_monitor_that_does_not_exist_is_refused_and_not_ignored() {
    let config = Config::from_toml("addr = 'memory:'\nmonitoring.enable = true");
    let mut config = config.expect("valid");
    let build = |config: &Config| {
        let builder = Server::builder(MemoryBroker::new()).process(nap);
        builder.config(config).build()
    };
    assert!(matches!(build(&config), Err(ServerError::NoMonitor)));
    assert!(std::mem::take(&mut config.monitoring).enable);
    assert!(build(&config).is_ok());
}

/// Durations are read by two parsers: here, and at compile time in the macros.
#[test]
fn durations_are_what_the_derive_takes_them_for() {
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
