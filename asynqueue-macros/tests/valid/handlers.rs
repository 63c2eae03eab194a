//! The valid signatures of a handler.

#![deny(warnings)]

use asynqueue_core::{
    memory::MemoryBroker,
    process::{Context, Payload, Process, State, TaskError},
    registry::ProcessWrapper,
    server::Server,
};
use asynqueue_macros::{FromState, Task};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "a", crate = asynqueue_core)]
struct A;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "b", output = u64, crate = asynqueue_core)]
struct B;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "c", crate = asynqueue_core)]
struct C;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "d", crate = asynqueue_core)]
struct D;

#[derive(Clone)]
struct Database;

#[derive(FromState)]
#[from_state(crate = asynqueue_core)]
struct Services {
    _database: Database,
}

/// One process for two types of tasks.
#[derive(Clone)]
struct Both;

impl Process<A> for Both {
    async fn handle(&self, _: Payload<A>, _: &Context) -> Result<(), TaskError> {
        Ok(())
    }
}

impl Process<B> for Both {
    async fn handle(&self, _: Payload<B>, ctx: &Context) -> Result<u64, TaskError> {
        ctx.cancelled().await;
        Ok(1)
    }
}

async fn bare(_: Payload<C>) -> Result<(), String> {
    Ok(())
}

async fn full(
    _: Payload<D>,
    _: State<Database>,
    _: Services,
    _: Context,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    Server::builder(MemoryBroker::new())
        .state(Database)
        .process::<A>(Both)
        .process(ProcessWrapper::new::<B>(Both))
        .process(bare)
        .process(full)
        .build()?;
    Ok(())
}
