//! Handlers declared at link time and built from the server's state.

use asynqueue_core::{
    process::{Context, Payload, Process, TaskError},
    server::{Server, ServerError},
};
use asynqueue_macros::{FromState, Task};
use serde::{Deserialize, Serialize};

use crate::harness::{broker, output_of};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "greet", process = Greets, output = String, crate = asynqueue_core)]
struct Greet {
    name: String,
}

#[derive(Clone)]
struct Greeting(&'static str);

#[derive(FromState)]
#[from_state(crate = asynqueue_core)]
struct Greets {
    greeting: Greeting,
}

impl Process<Greet> for Greets {
    async fn handle(&self, task: Payload<Greet>, ctx: &Context) -> Result<String, TaskError> {
        let from_context = ctx.state::<Greeting>()?;
        assert_eq!(from_context.0, self.greeting.0);
        Ok(format!("{}, {}!", self.greeting.0, task.name))
    }
}

#[tokio::test]
async fn a_declared_handler_is_registered_and_built_from_the_state() {
    let (broker, producer) = broker();
    let _server = Server::builder(broker)
        .state(Greeting("Welcome"))
        .registered()
        .start()
        .await
        .unwrap();
    let task = producer
        .enqueue(Greet { name: "Ada".into() })
        .await
        .unwrap();
    assert_eq!(output_of(&task).await, "Welcome, Ada!");
}

#[test]
fn missing_state_is_an_error_that_names_event_and_type() {
    let (broker, _) = broker();
    let error = Server::builder(broker)
        .registered()
        .build()
        .expect_err("no greeting");
    let text = error.to_string();
    for part in ["`greet`", "registered::Greeting`", "`.state(…)`"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
}

#[test]
fn a_handler_that_is_declared_and_registered_again_is_a_duplicate() {
    let (broker, _) = broker();
    let greets = Greets {
        greeting: Greeting("Hi"),
    };
    let result = Server::builder(broker)
        .state(Greeting("Hi"))
        .registered()
        .process(greets)
        .build();
    assert!(matches!(result, Err(ServerError::DuplicateProcess { event }) if event == "greet"));
}
