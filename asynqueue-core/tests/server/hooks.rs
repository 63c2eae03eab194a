//! Hooks: what they see, and when.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use asynqueue_core::{
    layer::Hook,
    process::{Context, Payload, TaskError},
    registry::ProcessWrapper,
    server::Server,
    task::{FailureKind, TaskState},
};

use crate::harness::{
    AN_HOUR, Job, broker, counts_become, failure_of, info, job, output_of, soon, until,
};

/// Records its calls.
#[derive(Clone, Default)]
struct Diary {
    name: &'static str,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Diary {
    fn named(&self, name: &'static str) -> Self {
        let lines = Arc::clone(&self.lines);
        Self { name, lines }
    }

    fn note(&self, line: String) {
        self.lines
            .lock()
            .unwrap()
            .push(format!("{}{line}", self.name));
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

impl Hook for Diary {
    async fn before(&self, ctx: &Context) -> Result<(), TaskError> {
        self.note(format!("before {}", ctx.attempt()));
        Ok(())
    }

    async fn after(&self, ctx: &Context) {
        self.note(format!("after {}", ctx.attempt()));
    }

    async fn on_error(&self, ctx: &Context, error: &TaskError) {
        self.note(format!("error {} {}", ctx.attempt(), error.failure_kind()));
    }

    async fn on_exhausted(&self, ctx: &Context, error: &TaskError) {
        self.note(format!(
            "exhausted {} {}",
            ctx.attempt(),
            error.failure_kind()
        ));
    }
}

#[tokio::test]
async fn on_exhausted_is_called_once_after_the_last_attempt() {
    let (broker, producer) = broker();
    let diary = Diary::default();
    let _server = Server::builder(broker.clone())
        .process(|_: Payload<Job>, _: Context| async { Err::<(), _>(TaskError::retry("no")) })
        .hook(diary.clone())
        .start()
        .await
        .unwrap();
    failure_of(&producer.enqueue(job(1)).max_retry(1).await.unwrap()).await;
    let expected = [
        "before 1",
        "error 1 error",
        "before 2",
        "error 2 error",
        "exhausted 2 error",
    ];
    assert_eq!(diary.lines(), expected);
}

#[tokio::test]
async fn hooks_see_panics_and_timeouts_as_errors() {
    let (broker, producer) = broker();
    let diary = Diary::default();
    let process = ProcessWrapper::new(|task: Payload<Job>, _: Context| async move {
        assert!(task.n != 1, "one");
        std::future::pending::<Result<(), TaskError>>().await
    })
    .with_hook(diary.clone());
    let _server = Server::builder(broker.clone())
        .process(process)
        .start()
        .await
        .unwrap();
    let panics = producer.enqueue(job(1)).max_retry(0).await.unwrap();
    failure_of(&panics).await;
    let slow = producer.enqueue(job(2)).max_retry(0);
    failure_of(&slow.timeout(Duration::from_millis(10)).await.unwrap()).await;
    let expected = [
        "before 1",
        "error 1 panic",
        "exhausted 1 panic",
        "before 1",
        "error 1 timeout",
        "exhausted 1 timeout",
    ];
    assert_eq!(diary.lines(), expected);
    counts_become(&broker, &[(TaskState::Archived, 2)]).await;
}

#[tokio::test]
async fn hooks_run_before_from_the_outside_in_and_after_from_the_inside_out() {
    let (broker, producer) = broker();
    let diary = Diary::default();
    let noted = diary.clone();
    let process = ProcessWrapper::new(move |_: Payload<Job>, _: Context| {
        noted.note("process".into());
        async { Ok::<_, TaskError>(()) }
    })
    .with_hook(diary.named("inner "))
    .with_hook(diary.named("outer "));
    let _server = Server::builder(broker.clone())
        .process(process)
        .hook(diary.named("server first "))
        .hook(diary.named("server second "))
        .start()
        .await
        .unwrap();
    output_of(&producer.enqueue(job(1)).await.unwrap()).await;
    let expected = [
        "server first before 1",
        "server second before 1",
        "outer before 1",
        "inner before 1",
        "process",
        "inner after 1",
        "outer after 1",
        "server second after 1",
        "server first after 1",
    ];
    assert_eq!(diary.lines(), expected);
}

/// Fails every attempt before it starts.
struct Closed;

impl Hook for Closed {
    async fn before(&self, _: &Context) -> Result<(), TaskError> {
        Err(TaskError::skip_retry("closed on Sundays"))
    }
}

#[tokio::test]
async fn an_error_of_before_is_the_outcome_and_the_handler_does_not_run() {
    let (broker, producer) = broker();
    let diary = Diary::default();
    let noted = diary.clone();
    let process = ProcessWrapper::new(move |_: Payload<Job>, _: Context| {
        noted.note("process".into());
        async { Ok::<_, TaskError>(()) }
    })
    .with_hook(Closed)
    .with_hook(diary.clone());
    let _server = Server::builder(broker.clone())
        .process(process)
        .start()
        .await
        .unwrap();
    let failure = failure_of(&producer.enqueue(job(1)).await.unwrap()).await;
    assert_eq!(failure.message, "closed on Sundays");
    let expected = ["before 1", "error 1 error", "exhausted 1 error"];
    assert_eq!(diary.lines(), expected);
}

#[tokio::test]
async fn an_error_that_does_not_count_does_not_exhaust_the_task() {
    let (broker, producer) = broker();
    let diary = Diary::default();
    let _server = Server::builder(broker.clone())
        .process(|_: Payload<Job>, _: Context| async { Err::<(), _>(TaskError::retry("busy")) })
        .hook(diary.clone())
        .is_failure(|_| false)
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).max_retry(0).await.unwrap();
    until("it ran some times", async || {
        info(&task).await.envelope.failures().len() > 2
    })
    .await;
    let exhausted = diary
        .lines()
        .iter()
        .filter(|line| line.starts_with("exhausted"))
        .count();
    assert_eq!(exhausted, 0, "{:?}", diary.lines());
}

/// Takes its time to report an error, like one that calls another service.
struct Unhurried(Diary);

impl Hook for Unhurried {
    async fn on_error(&self, _: &Context, _: &TaskError) {
        tokio::time::sleep(Duration::from_millis(600)).await;
        self.0.note("reported".into());
    }

    async fn on_exhausted(&self, _: &Context, _: &TaskError) {
        self.0.note("exhausted".into());
    }
}

#[tokio::test]
async fn a_hook_has_time_to_report_a_timeout() {
    let (broker, producer) = broker();
    let diary = Diary::default();
    let _server = Server::builder(broker.clone())
        .process(|_: Payload<Job>, _: Context| std::future::pending::<Result<(), TaskError>>())
        .hook(Unhurried(diary.clone()))
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).max_retry(0);
    let failure = failure_of(&task.timeout(Duration::from_millis(10)).await.unwrap()).await;
    assert_eq!(
        (failure.kind, failure.message.as_str()),
        (FailureKind::Timeout, "timed out after 10ms")
    );
    assert_eq!(diary.lines(), ["reported", "exhausted"]);
}

#[tokio::test]
async fn hooks_are_not_called_for_an_attempt_released_by_shutdown() {
    let (broker, producer) = broker();
    let diary = Diary::default();
    let server = Server::builder(broker.clone())
        .shutdown_timeout(Duration::ZERO)
        .cancel_grace(AN_HOUR)
        .process(|_: Payload<Job>, ctx: Context| async move {
            ctx.cancelled().await;
            Err::<(), _>(TaskError::retry("interrupted"))
        })
        .hook(diary.clone())
        .start()
        .await
        .unwrap();
    producer.enqueue(job(1)).max_retry(0).await.unwrap();
    until("it runs", async || diary.lines() == ["before 1"]).await;
    soon("the server ends", server.shutdown()).await.unwrap();
    counts_become(&broker, &[(TaskState::Pending, 1)]).await;
    assert_eq!(diary.lines(), ["before 1"]);
}
