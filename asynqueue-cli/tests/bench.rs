//! `asynqueue bench`, run as users run it.

use std::process::{Command, Output};

use asynqueue_test_servers::{Postgres, RedisServer};
use serde_json::Value;

fn bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_asynqueue"))
        .arg("bench")
        .args(args)
        .output()
        .expect("it runs")
}

fn report(broker: &str) -> Value {
    let small = [
        "--tasks",
        "500",
        "--producers",
        "8",
        "--batch",
        "100",
        "--json",
        "--broker",
    ];
    let output = bench(&[&small[..], &[broker]].concat());
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    for rate in ["enqueue_per_s", "bulk_enqueue_per_s", "process_per_s"] {
        assert!(
            report[rate].as_f64().is_some_and(|rate| rate > 0.0),
            "{rate} of {report}"
        );
    }
    for latency in ["idle_latency_ms", "load_latency_ms"] {
        let part = |part: &str| report[latency][part].as_f64().expect("a time");
        assert!(
            part("p50") <= part("p99") && part("p99") <= part("max"),
            "{report}"
        );
    }
    assert_eq!(
        (&report["lost"], &report["duplicated"]),
        (&0.into(), &0.into())
    );
    report
}

#[test]
fn a_broker_in_memory_has_no_figures_of_a_storage() {
    let report = report("memory:");
    assert_eq!(report["storage_cpu_us"]["process"], Value::Null);
    assert_eq!(report["bytes_per_waiting_task"], Value::Null);
}

#[tokio::test]
async fn redis_is_measured_and_left_unchanged() {
    let server = RedisServer::start().await;
    let report = report(&server.url());
    for stage in ["enqueue", "bulk_enqueue", "process"] {
        assert!(
            report["storage_cpu_us"][stage].is_number(),
            "{stage} of {report}"
        );
    }
    assert!(report["bytes_per_waiting_task"].is_number());
    let mut connection = server.connection().await;
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut connection)
        .await
        .expect("keys");
    let mut left = Vec::new();
    for key in keys {
        let ends_in: i64 = redis::cmd("PTTL")
            .arg(&key)
            .query_async(&mut connection)
            .await
            .expect("a time");
        // Notes of live instances and of deletions expire within seconds.
        if ends_in < 0 {
            left.push(key);
        }
    }
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test]
async fn a_local_postgresql_is_measured_and_its_tables_are_left_empty() {
    let server = Postgres::fast().await;
    let report = report(&server.url());
    for stage in ["enqueue", "bulk_enqueue", "process"] {
        assert!(
            report["storage_cpu_us"][stage].is_number(),
            "{stage} of {report}"
        );
    }
    let bytes = report["bytes_per_waiting_task"].as_f64();
    assert!(bytes.is_some_and(|bytes| bytes > 0.0), "{report}");
    let tasks = "select count(*) from asynqueue.task";
    let tasks = server.client().await.query_one(tasks, &[]).await;
    assert_eq!(tasks.expect("a table").get::<_, i64>(0), 0);
}

#[test]
fn invalid_arguments_are_refused_by_name() {
    for (args, code, expected) in [
        (&["--tasks", "0"][..], 2, "'--tasks <N>': 0 is not in 1..="),
        (
            &["--payload-bytes", "3"],
            2,
            "'--payload-bytes <N>': expected 19 to 1048576 bytes",
        ),
        (
            &["--broker", "http://ada:secret@h"],
            1,
            "unknown scheme `http`",
        ),
        (
            &["--broker", "redis://ada:secret@h?x=1"],
            1,
            "unknown parameter `x`",
        ),
        (
            &["--broker", "redis://ada:secret@127.0.0.1:1"],
            1,
            "cannot reach Redis at 127.0.0.1:1",
        ),
    ] {
        let output = bench(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(
            error.contains(expected) && !error.contains("secret"),
            "{error}"
        );
    }
}
