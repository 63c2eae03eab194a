//! The macros of asynqueue: [`Task`](macro@Task) for payloads, [`FromState`](macro@FromState) for processes, and
//! [`process`](macro@process), which says what is wrong with a handler.
//!
//! Users get them from the `asynqueue` crate.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod attribute;
mod duration;
mod from_state;
mod handler;
mod mistakes;
mod suggest;
mod task;
mod value;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes a struct or an enum a task: a payload that can be enqueued.
///
/// ```
/// # mod asynqueue { pub use asynqueue_core::task::Task; }
/// use asynqueue::Task;
/// # use asynqueue_macros::Task;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Receipt {
///     message_id: String,
/// }
///
/// #[derive(Serialize, Deserialize, Task)]
/// #[task(event = "email:welcome", queue = "critical", max_retry = 5, timeout = "1m30s")]
/// #[task(unique(ttl = "1h", fields(user_id)), output = Receipt)]
/// # #[task(crate = asynqueue_core)]
/// struct WelcomeEmail {
///     user_id: u64,
///     template: String,
/// }
///
/// assert_eq!(WelcomeEmail::EVENT, "email:welcome");
/// assert_eq!(WelcomeEmail::options().queue, "critical");
/// assert_eq!(WelcomeEmail::options().timeout.as_secs(), 90);
/// ```
///
/// The payload is also `Serialize` and `Deserialize`. It cannot be generic: its event name stands for one type.
///
/// # Attributes
///
/// All go above the struct or enum, in one `#[task(…)]` or several, each at most once. Only `event` is required.
///
/// | attribute | what it sets | default |
/// |---|---|---|
/// | `event = "email:welcome"` | The name that ties the payload to its process. It is written out so that renaming the struct orphans no waiting task. No white space. | |
/// | `queue = "critical"` | The queue: up to 200 bytes, without braces and white space. | `default` |
/// | `max_retry = 5` | Attempts after the first, before the task is archived. | 25 |
/// | `timeout = "30s"` | How long one attempt may take. Not zero. | 30 minutes |
/// | `deadline = "1h"` | How long after it is enqueued the task is still worth running. Not zero. | for ever |
/// | `backoff = …` | How long to wait before each retry, see below. | `standard` |
/// | `retention = "24h"` | How long a completed task and its result are kept. | 1 hour with an `output`, else not at all |
/// | `priority = 7` | 0 to 9; within a queue, higher runs first. | 0 |
/// | `group = "tenant-a"` | A label that ties tasks together. | none |
/// | `aggregate(grace = "10s", max_delay = "1m", max_size = 100)` | Tasks of one group wait for one another, and become one task. | they don't |
/// | `unique(ttl = "1h")` | Refuses a task while another with an equal payload is locked, see below. | not unique |
/// | `output = Receipt` | The type that the process returns. | `()` |
/// | `codec = Json` | The type that encodes the payload and the output. | `MessagePack` |
/// | `process = SendWelcome` | The process to register, see below. | none |
/// | `crate = path` | Where the framework is, for crates that rename or wrap it. | `::asynqueue` |
///
/// ## Durations
///
/// Text of whole numbers that are each followed by a unit, such as `"250ms"`, `"30s"` or `"1h30m"`. The units:
///
/// | `ms` | `s` | `m` | `h` | `d` | `w` |
/// |---|---|---|---|---|---|
/// | milliseconds | seconds | minutes | hours | days of 24 hours | weeks |
///
/// ## `backoff`
///
/// | value | the wait before a retry |
/// |---|---|
/// | `standard` | n⁴ + 15 + a random part of 30·(n + 1) seconds, where n counts from 0: 15–45 s first, 16–76 s next, some three weeks in all for 25 retries |
/// | `fixed("10s")` | the same each time |
/// | `exponential("1s", "1h")` | twice as long each time, from the first up to the second; a random half of it is left out, so that tasks which failed together don't come back together |
///
/// ## `unique`
///
/// | part | meaning | default |
/// |---|---|---|
/// | `ttl = "1h"` | The lock is released after this long in any case, so that a crash can't hold it for ever. Required, not zero. | |
/// | `until = "start"` | The lock is released when a worker starts the task; one that is given back or snoozed takes it again. | |
/// | `until = "success"` | … when the task has come to its end: completed, archived or deleted. | this |
/// | `until = "window"` | … only after `ttl`: at most one task per window. | |
/// | `fields(user_id, region)` | The fields of the struct that make two payloads the same, in this order; at most 16. | the whole payload |
///
/// Payloads are compared as they are encoded, in a canonical form: maps are equal whatever order they are in, and so are a
/// `HashSet` and an `IndexSet`; the order of a list counts. A set behind a type of its own that is `#[serde(transparent)]`, or
/// written by `serialize_with`, is a list to serde.
///
/// ## `process`
///
/// `process = SendWelcome` registers the process at link time. A server that is told to mount all registered processes
/// then needs no list of them; it builds each by its `FromState`, which can be [derived](macro@FromState).
///
/// ```
/// # mod asynqueue { pub use asynqueue_core::{process::*, registry}; }
/// use asynqueue::{Context, Payload, Process, TaskError, registry::Registration};
/// # use asynqueue_macros::{FromState, Task};
/// # use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Task)]
/// #[task(event = "email:welcome", process = SendWelcome)]
/// # #[task(crate = asynqueue_core)]
/// struct WelcomeEmail {
///     user_id: u64,
/// }
///
/// #[derive(FromState)]
/// # #[from_state(crate = asynqueue_core)]
/// struct SendWelcome;
///
/// impl Process<WelcomeEmail> for SendWelcome {
///     async fn handle(&self, task: Payload<WelcomeEmail>, _: &Context) -> Result<(), TaskError> {
///         println!("welcome, user {}", task.user_id);
///         Ok(())
///     }
/// }
///
/// assert!(Registration::all().any(|registration| registration.event() == "email:welcome"));
/// ```
///
/// A linker leaves out a library crate that the program never mentions, and its registrations with it. Where tasks are
/// in a crate of their own, mention it: `use my_tasks as _;`.
///
/// # Errors
///
/// A wrong attribute is a compile error at its place, which says what to write. All of them are reported at once.
#[proc_macro_derive(Task, attributes(task))]
pub fn derive_task(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    task::derive(&input).into()
}

/// Builds a process from the state that a server's processes share: each field is cloned from the state by its type.
///
/// ```
/// # mod asynqueue { pub use asynqueue_core::process::{self, FromState}; }
/// use asynqueue::{FromState, process::ServerState};
/// # use asynqueue_macros::FromState;
///
/// #[derive(Clone)]
/// struct Mailer {
///     host: &'static str,
/// }
///
/// #[derive(FromState)]
/// # #[from_state(crate = asynqueue_core)]
/// struct SendWelcome {
///     mailer: Mailer,
///     #[from_state(default)]
///     templates: Vec<String>,
/// }
///
/// let mut state = ServerState::default();
/// assert!(SendWelcome::from_state(&state).is_err(), "there is no mailer yet");
///
/// state.insert(Mailer { host: "smtp.example.com" });
/// let process = SendWelcome::from_state(&state)?;
/// assert_eq!(process.mailer.host, "smtp.example.com");
/// # Ok::<(), asynqueue::process::MissingState>(())
/// ```
///
/// Structs of all kinds will do, with named fields or without, generic or not. A field from the state is `Clone`,
/// `Send`, `Sync` and `'static`; what is dear to clone or has one type with others, such as a second `String`, goes
/// into an `Arc` or a type of its own.
///
/// # Attributes
///
/// | attribute | where | meaning | default |
/// |---|---|---|---|
/// | `#[from_state(default)]` | field | The field takes its type's `Default`, not a value from the state. | from the state |
/// | `#[from_state(crate = path)]` | struct | Where the framework is, for crates that rename or wrap it. | `::asynqueue` |
///
/// # Errors
///
/// A wrong attribute, an enum or a union is a compile error that says what to write. A value that the state lacks is
/// found when the process is built: `from_state` returns `MissingState`, which names the type.
#[proc_macro_derive(FromState, attributes(from_state))]
pub fn derive_from_state(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    from_state::derive(&input).into()
}

/// Says what is wrong with a function that is to be a handler, where it stands: `#[asynqueue::process]`. The function is left as it is, and can be
/// mounted with this or without it.
///
/// ```
/// # extern crate asynqueue_core as asynqueue;
/// # use asynqueue::process::{Context, Payload, State, TaskError};
/// # use asynqueue_macros::{Task, process};
/// # #[derive(serde::Serialize, serde::Deserialize, Task)]
/// # #[task(event = "email:welcome")]
/// # struct Welcome { user_id: u64 }
/// # #[derive(Clone)] struct Mailer;
/// # fn main() {}
/// #[process]
/// async fn welcome(task: Payload<Welcome>, State(mailer): State<Mailer>, ctx: Context) -> Result<(), TaskError> {
///     println!("welcome, user {}", task.user_id);
///     Ok(())
/// }
/// ```
///
/// It costs nothing at run time. What it finds:
///
/// - a function that is not async, is generic, or has a `self`;
/// - no payload, two of them, one whose type is not a task, or more than eight arguments;
/// - an argument that is taken by reference, or cannot be built;
/// - a return type that is not a `Result` of the task's output, or whose error does not become a `TaskError`;
/// - a future that cannot be sent between threads, with the value that it holds across an `await`.
///
/// It goes above free functions, not above those in an `impl`.
///
/// # Attributes
///
/// | attribute | meaning | default |
/// |---|---|---|
/// | `#[process(blocking)]` | The function is a plain `fn`, for `process_blocking`. | async |
/// | `#[process(crate = path)]` | Where the framework is, for crates that rename or wrap it. | `::asynqueue` |
#[proc_macro_attribute]
pub fn process(attribute: TokenStream, item: TokenStream) -> TokenStream {
    handler::check(attribute.into(), item.into()).into()
}
