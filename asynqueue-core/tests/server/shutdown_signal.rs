//! Signals, sent to real child processes.

#![cfg(unix)]

use std::{
    io::{BufRead, BufReader, Lines},
    os::unix::process::ExitStatusExt,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    time::Duration,
};

use asynqueue_core::{
    process::{Context, Payload, TaskError},
    server::{Server, shutdown_signal},
    task::TaskState,
};

use crate::harness::{AN_HOUR, Job, broker, counts, info, job, soon, until};

/// A child process that runs one of the ignored tests below.
struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(test: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture"])
            .arg(format!("shutdown_signal::{test}"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn says(&mut self, text: &str) {
        let said = (self.lines).any(|line| line.is_ok_and(|line| line.contains(text)));
        assert!(said, "the child ended before it printed `{text}`");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let killed = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(killed.success());
    }

    fn end(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

/// The child: a server that prints when its task runs, and that it has ended in order.
#[tokio::test]
#[ignore = "run as a child process of a test below"]
async fn serve_until_a_signal_comes() {
    let (broker, producer) = broker();
    producer.enqueue(job(1)).await.unwrap();
    let server = Server::builder(broker.clone()).process(|_: Payload<Job>, _: Context| async {
        println!("the task runs");
        // Longer than it takes for the signal to arrive.
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok::<_, TaskError>(())
    });
    // Bounded, in case no signal ends it.
    soon("the signal ends it", server.run(shutdown_signal()))
        .await
        .unwrap();
    assert_eq!(counts(&broker).await, [(TaskState::Completed, 1)]);
    println!("ended in order");
}

#[test]
fn sigterm_lets_the_running_task_finish_and_ends_the_process_in_order() {
    let mut program = Program::start("serve_until_a_signal_comes");
    program.says("the task runs");
    program.signal("-TERM");
    program.says("ended in order");
    assert!(program.end().success());
}

/// The child: a server whose task never ends and blocks the only thread.
#[tokio::test]
#[ignore = "run as a child process of a test below"]
async fn serve_a_task_that_never_ends() {
    let (broker, producer) = broker();
    let task = producer.enqueue(job(1)).await.unwrap();
    let server = Server::builder(broker.clone())
        .shutdown_timeout(AN_HOUR)
        .cancel_grace(AN_HOUR)
        .process(|_: Payload<Job>, _: Context| async {
            println!("the task runs");
            std::future::pending::<Result<(), TaskError>>().await
        });
    let shutdown = async {
        shutdown_signal().await;
        println!("heard the first");
    };
    soon("the second signal ends it", server.run(shutdown))
        .await
        .unwrap();
    let info = info(&task).await;
    assert_eq!(
        (info.state, info.envelope.attempts),
        (TaskState::Pending, 0)
    );
    println!("gave it back");
}

#[test]
fn a_second_signal_releases_running_tasks_and_ends_the_server_immediately() {
    let mut program = Program::start("serve_a_task_that_never_ends");
    program.says("the task runs");
    program.signal("-INT");
    program.says("heard the first");
    program.signal("-INT");
    program.says("gave it back");
    assert!(program.end().success());
}

/// The child: a program that hangs after its server has ended.
#[tokio::test]
#[ignore = "run as a child process of a test below"]
async fn hang_after_a_signal() {
    let signal = shutdown_signal();
    println!("listens");
    signal.await;
    println!("heard the first");
    std::thread::sleep(AN_HOUR);
}

#[test]
fn a_third_signal_exits_a_process_that_hangs() {
    let mut program = Program::start("hang_after_a_signal");
    program.says("listens");
    program.signal("-TERM");
    program.says("heard the first");
    // Signals of one kind may be merged while the first is not received yet.
    while program.child.try_wait().unwrap().is_none() {
        program.signal("-TERM");
        std::thread::sleep(Duration::from_millis(20));
    }
    let status = program.end();
    assert_eq!((status.code(), status.signal()), (Some(128 + 15), None));
}

/// The child: a server that becomes quiet, and resumes after it has printed that.
#[tokio::test]
#[ignore = "run as a child process of a test below"]
async fn be_quiet_at_a_signal() {
    let (broker, producer) = broker();
    let _listens = shutdown_signal();
    let server = Server::builder(broker.clone())
        .process(|_: Payload<Job>, _: Context| async { Ok::<_, TaskError>(()) })
        .start()
        .await
        .unwrap();
    println!("listens");
    until("it is quiet", async || server.is_quiet()).await;
    let task = producer.enqueue(job(1)).await.unwrap();
    assert_eq!(info(&task).await.state, TaskState::Pending);
    println!("is quiet");
    server.set_quiet(false);
    soon("it runs", task.result()).await.unwrap();
    println!("has resumed");
    until("it is quiet again", async || server.is_quiet()).await;
    server.shutdown().await.unwrap();
}

#[test]
fn sigusr1_makes_the_servers_of_a_process_quiet_each_time() {
    let mut program = Program::start("be_quiet_at_a_signal");
    program.says("listens");
    program.signal("-USR1");
    program.says("is quiet");
    program.says("has resumed");
    program.signal("-USR1");
    assert!(program.end().success());
}
