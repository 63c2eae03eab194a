//! The arguments that a handler may have, in any order, with and without the attribute.

#![deny(warnings)]

use std::future::Future;

use asynqueue_core::{
    memory::MemoryBroker,
    process::{
        Cancellation, Context, FromTask, MissingState, Payload, ServerState, State, TaskError,
    },
    producer::Producer,
    server::Server,
    task::{Attempt, Headers, TaskId},
};
use asynqueue_macros::{FromState, Task, process};
use serde::{Deserialize, Serialize};

/// A task for each event, so that one server can run all handlers.
macro_rules! tasks {
    ($($name:ident $event:literal)*) => { $(
        #[derive(Serialize, Deserialize, Task)]
        #[task(event = $event, crate = asynqueue_core)]
        struct $name;
    )* };
}

tasks! { A "a" B "b" C "c" D "d" E "e" F "f" G "g" H "h" I "i" J "j" }

#[derive(Clone)]
struct Database;

#[derive(FromState)]
#[from_state(crate = asynqueue_core)]
struct Services {
    _database: Database,
}

/// A custom argument.
struct Tenant;

impl FromTask for Tenant {
    fn check(state: &ServerState) -> Result<(), MissingState> {
        state.get::<Database>().map(drop)
    }

    fn from_task(ctx: &Context) -> Result<Self, TaskError> {
        ctx.state::<Database>()?;
        Ok(Self)
    }
}

#[process(crate = asynqueue_core)]
async fn first(
    _: Payload<A>,
    State(_database): State<Database>,
    _: Context,
) -> Result<(), TaskError> {
    Ok(())
}

#[process(crate = asynqueue_core)]
async fn last(
    _: Context,
    State(_database): State<Database>,
    _: Payload<B>,
) -> Result<(), TaskError> {
    Ok(())
}

#[process(crate = asynqueue_core)]
async fn in_the_middle(_: Tenant, _: Payload<C>, _: Services) -> Result<(), String> {
    Ok(())
}

#[allow(clippy::too_many_arguments)]
#[process(crate = asynqueue_core)]
async fn all_eight(
    _: State<Database>,
    _: Context,
    _: TaskId,
    _: Attempt,
    _: Payload<D>,
    _: Headers,
    _: Cancellation,
    _: Producer,
) -> Result<(), &'static str> {
    Ok(())
}

/// Under another name.
type Job = Payload<E>;

#[process(crate = asynqueue_core)]
async fn by_another_name(_: Producer, _: Job) -> Result<(), TaskError> {
    Ok(())
}

#[process(crate = asynqueue_core)]
fn future(_: Payload<F>) -> impl Future<Output = Result<(), TaskError>> {
    std::future::ready(Ok(()))
}

#[process(blocking, crate = asynqueue_core)]
fn blocking(_: Cancellation, _: Payload<G>, _: State<Database>) -> std::io::Result<()> {
    Ok(())
}

#[deprecated]
#[process(crate = asynqueue_core)]
async fn deprecated(_: Payload<H>) -> Result<(), TaskError> {
    Ok(())
}

#[process(crate = asynqueue_core)]
#[cfg(any())]
async fn left_out(_: Unknown) -> Unknown {}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[allow(deprecated)]
    let server = Server::builder(MemoryBroker::new()).process(deprecated);
    server
        .state(Database)
        .process(first)
        .process(last)
        .process(in_the_middle)
        .process(all_eight)
        .process(by_another_name)
        .process(future)
        .process_blocking(blocking)
        .process(|ctx: Context, _: Payload<I>| async move {
            ctx.cancelled().await;
            Ok::<_, TaskError>(())
        })
        .process(async |_: Producer, _: Payload<J>| Ok::<_, TaskError>(()))
        .build()?;
    Ok(())
}
