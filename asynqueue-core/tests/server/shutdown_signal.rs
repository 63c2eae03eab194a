//! SIGTERM, sent to a real child process.

#![cfg(unix)]

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use asynqueue_core::{Context, Payload, Server, TaskError, TaskState, shutdown_signal};

use crate::harness::{Job, broker, counts, job, soon};

/// The child: a server that says when its task runs, and that it has ended in order.
#[tokio::test]
#[ignore = "run as a child of the test below"]
async fn serve_until_a_signal_comes() {
    let (broker, producer) = broker();
    producer.enqueue(job(1)).await.unwrap();
    let server = Server::builder(broker.clone()).process(|_: Payload<Job>, _: Context| async {
        println!("the task runs");
        // Longer than it takes for the signal to arrive.
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok::<_, TaskError>(())
    });
    // Not for ever, should no signal end it.
    soon("the signal ends it", server.run(shutdown_signal()))
        .await
        .unwrap();
    assert_eq!(counts(&broker).await, [(TaskState::Completed, 1)]);
    println!("ended in order");
}

#[test]
fn sigterm_lets_the_running_task_finish_and_ends_the_process_in_order() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture"])
        .arg("shutdown_signal::serve_until_a_signal_comes")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut says = |text: &str| lines.any(|line| line.is_ok_and(|line| line.contains(text)));
    assert!(says("the task runs"), "the child ended before its task ran");
    let killed = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    assert!(says("ended in order"));
    assert!(child.wait().unwrap().success());
}
