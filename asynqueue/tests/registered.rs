//! What the crate of an application writes, with nothing but the facade.

use std::sync::Arc;

use asynqueue::{MemoryBroker, prelude::*, registry::Registration};

#[derive(Clone, Default)]
struct Greetings(Arc<str>);

#[derive(Serialize, Deserialize, Task)]
#[task(event = "greet", queue = "polite", process = Greet, output = String)]
struct Greeting {
    name: String,
}

#[derive(FromState)]
struct Greet {
    greetings: Greetings,
}

impl Process<Greeting> for Greet {
    async fn handle(&self, task: Payload<Greeting>, _: &Context) -> Result<String, TaskError> {
        Ok(format!("{} {}", self.greetings.0, task.name))
    }
}

#[tokio::test]
async fn a_handler_declared_at_link_time_runs_with_the_servers_state() -> Result<(), BoxError> {
    let broker = MemoryBroker::new();
    let server = Server::builder(broker.clone())
        .state(Greetings("Good evening,".into()))
        .registered()
        .start()
        .await?;
    let greeting = Producer::new(broker)
        .enqueue(Greeting { name: "Ada".into() })
        .await?;
    assert_eq!(greeting.result().await?, "Good evening, Ada");
    server.shutdown().await?;
    Ok(())
}

#[test]
fn a_declared_handler_names_the_state_it_lacks() {
    assert_eq!(
        Registration::all()
            .map(Registration::event)
            .collect::<Vec<_>>(),
        ["greet"]
    );
    let error = Server::builder(MemoryBroker::new())
        .registered()
        .build()
        .expect_err("no state");
    let text = error.to_string();
    for part in ["`greet`", "Greetings`", ".state("] {
        assert!(text.contains(part), "no {part} in {text}");
    }
}
