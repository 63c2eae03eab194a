//! Invalid servers are rejected before they run.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use asynqueue_core::{
    process::{Context, Payload, TaskError},
    registry::ProcessWrapper,
    server::{Server, ServerBuilder, ServerError},
    testing::run_inline,
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::harness::{Job, broker, job};

async fn nothing(_: Payload<Job>, _: Context) -> Result<(), TaskError> {
    Ok(())
}

fn refused(setup: impl FnOnce(ServerBuilder) -> ServerBuilder) -> ServerError {
    let (broker, _) = broker();
    setup(Server::builder(broker)).build().expect_err("invalid")
}

#[test]
fn a_server_without_slots_is_rejected() {
    assert!(matches!(
        refused(|server| server.process(nothing).concurrency(0)),
        ServerError::ZeroConcurrency
    ));
}

#[test]
fn a_server_with_more_slots_than_allowed_is_rejected() {
    let refused = refused(|server| server.process(nothing).concurrency(usize::MAX));
    assert!(
        matches!(refused, ServerError::TooConcurrent { .. }),
        "{refused}"
    );
}

#[test]
fn a_server_without_a_handler_is_rejected() {
    assert!(matches!(refused(|server| server), ServerError::NoProcess));
}

#[test]
fn two_handlers_for_one_event_are_rejected_by_name() {
    let error = refused(|server| server.process(nothing).process(nothing));
    assert!(matches!(&error, ServerError::DuplicateProcess { event } if *event == "job"));
    assert!(error.to_string().contains("`job`"), "{error}");
}

#[test]
fn durations_that_are_too_short_are_rejected_by_the_name_of_the_setting() {
    let short = Duration::from_micros(1);
    type Setup = fn(ServerBuilder, Duration) -> ServerBuilder;
    let settings: [(&str, Setup); 3] = [
        ("lease", |server, time| server.lease(time)),
        ("poll_interval", |server, time| server.poll_interval(time)),
        ("health_check", |server, time| {
            server.health_check(time, |_| {})
        }),
    ];
    for (name, setup) in settings {
        let error = refused(|server| setup(server.process(nothing), short));
        assert!(
            matches!(error, ServerError::TooShort { setting, .. } if setting == name),
            "{error}"
        );
    }
}

/// Captures the warnings and errors of this thread.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!("{field}={value:?} "));
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[test]
fn a_handler_whose_queue_the_server_does_not_lease_from_causes_a_warning() {
    let warnings = Warnings::default();
    tracing::subscriber::with_default(warnings.clone(), || {
        let (broker, _) = broker();
        let server = Server::builder(broker).queue("other", 1);
        server.process(nothing).build().expect("allowed");
    });
    let warnings = warnings.0.lock().unwrap();
    assert_eq!(warnings.len(), 1);
    for part in ["event=job", "queue=default", "does not lease from"] {
        assert!(warnings[0].contains(part), "no {part} in {}", warnings[0]);
    }
}

#[tokio::test]
async fn missing_state_of_a_handler_is_logged_once_with_event_and_type() {
    async fn needs_state(_: Payload<Job>, ctx: Context) -> Result<(), TaskError> {
        let _: &Duration = ctx.state()?;
        Ok(())
    }
    let process = ProcessWrapper::new(needs_state);
    let warnings = Warnings::default();
    let logged = tracing::subscriber::set_default(warnings.clone());
    for n in 0..3 {
        let attempt = run_inline(process.clone(), job(n)).await;
        attempt.expect_err("the state is missing");
    }
    drop(logged);
    let warnings = warnings.0.lock().unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    for part in ["event=job", "`core::time::Duration`", "without counting"] {
        assert!(warnings[0].contains(part), "no {part} in {}", warnings[0]);
    }
}
