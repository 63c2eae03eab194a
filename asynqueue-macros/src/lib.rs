//! The macros of asynqueue: [`Task`](macro@Task) for payloads, [`FromState`](macro@FromState) for handlers, and
//! [`process`](macro@process), which reports what is wrong with a handler.
//!
//! The `asynqueue` crate re-exports them.

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
/// The payload must also be `Serialize` and `Deserialize`. It cannot be generic, because its event name stands for one
/// type.
///
/// # Attributes
///
/// All of them go above the struct or enum, in one or several `#[task(…)]`, each at most once. Only `event` is
/// required.
///
/// | attribute | what it sets | default |
/// |---|---|---|
/// | `event = "email:welcome"` | The name that selects the handler. It is written out so that renaming the struct does not orphan waiting tasks. No white space. | |
/// | `queue = "critical"` | The queue: up to 200 bytes, without braces and white space. | `default` |
/// | `max_retry = 5` | How many retries follow the first attempt before the task is archived. | 25 |
/// | `timeout = "30s"` | How long one attempt may take. Not zero. | 30 minutes |
/// | `deadline = "1h"` | How long after enqueueing the task becomes useless and is archived. Not zero. | never |
/// | `backoff = …` | How long to wait before each retry, see below. | `standard` |
/// | `retention = "24h"` | How long a completed task and its result are kept. | 1 hour with an `output`, otherwise not at all |
/// | `priority = 7` | The priority within the queue, 0 to 9. Higher runs first. | 0 |
/// | `group = "tenant-a"` | The name of the group that the task belongs to. | none |
/// | `aggregate(grace = "10s", max_delay = "1m", max_size = 100)` | Tasks of one group wait together and become one task. | not aggregated |
/// | `unique(ttl = "1h")` | Refuses a task while another one with an equal payload holds the lock, see below. | not unique |
/// | `output = Receipt` | The output type of the handler. | `()` |
/// | `codec = Json` | The type that encodes the payload and the output. | `MessagePack` |
/// | `process = SendWelcome` | The handler to register, a type that implements `Process`: see below. | none |
/// | `crate = path` | The path of the framework, for crates that rename or wrap it. | `::asynqueue` |
///
/// ## Durations
///
/// Text of whole numbers, each followed by a unit, such as `"250ms"`, `"30s"` or `"1h30m"`. The units:
///
/// | `ms` | `s` | `m` | `h` | `d` | `w` |
/// |---|---|---|---|---|---|
/// | milliseconds | seconds | minutes | hours | days of 24 hours | weeks |
///
/// ## `backoff`
///
/// | value | the wait before a retry |
/// |---|---|
/// | `standard` | n⁴ + 15 seconds plus a random part of 30·(n + 1) seconds, where n counts from 0: first 15–45 s, then 16–76 s, about three weeks in total for 25 retries |
/// | `fixed("10s")` | the same each time |
/// | `exponential("1s", "1h")` | doubles each time, from the first up to the second; a random part of up to half is subtracted, so that tasks that failed together are not retried together |
///
/// ## `unique`
///
/// | part | meaning | default |
/// |---|---|---|
/// | `ttl = "1h"` | The maximum time that the lock is held, so that a crash cannot hold it forever. Required, not zero. | |
/// | `until = "start"` | The lock is released when a worker starts the task. A released or snoozed task takes it again. | |
/// | `until = "success"` | … when the task finishes: it is completed, archived or deleted. | this |
/// | `until = "window"` | … only after `ttl`: at most one task per window. | |
/// | `fields(user_id, region)` | The fields of the struct that are compared, in this order; at most 16. | the entire payload |
///
/// Payloads are compared in a canonical encoding: equal maps are equal in any order, and so are a `HashSet` and an
/// `IndexSet`; the order of a list is significant. To serde, a set in a wrapper type with `#[serde(transparent)]` or
/// `serialize_with` is a list.
///
/// ## `process`
///
/// `process = SendWelcome` registers the handler at link time. A server that runs all registered handlers then needs
/// no list of them. It builds each with its `FromState`, which can be [derived](macro@FromState).
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
/// A linker drops a library crate that the program never mentions, together with its registrations. If tasks are in a
/// separate crate, mention it: `use my_tasks as _;`.
///
/// # Errors
///
/// An invalid attribute is a compile error in its place, which says what to write. All of them are reported together.
#[proc_macro_derive(Task, attributes(task))]
pub fn derive_task(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    task::derive(&input).into()
}

/// Builds a handler from the state that the handlers of a server share: each field is cloned from the state by its
/// type.
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
/// let handler = SendWelcome::from_state(&state)?;
/// assert_eq!(handler.mailer.host, "smtp.example.com");
/// # Ok::<(), asynqueue::process::MissingState>(())
/// ```
///
/// Supports all kinds of structs: with named fields or without, generic or not. A field from the state must be `Clone`,
/// `Send`, `Sync` and `'static`. Wrap a value in an `Arc` if it is expensive to clone, and in a separate type if
/// another value has the same type, such as a second `String`.
///
/// # Attributes
///
/// | attribute | where | meaning | default |
/// |---|---|---|---|
/// | `#[from_state(default)]` | field | The field is its type's `Default` instead of a value from the state. | from the state |
/// | `#[from_state(crate = path)]` | struct | The path of the framework, for crates that rename or wrap it. | `::asynqueue` |
///
/// # Errors
///
/// An invalid attribute, an enum or a union is a compile error that says what to write. A value that is missing in the
/// state is found when the handler is built: `from_state` returns `MissingState`, which names the type.
#[proc_macro_derive(FromState, attributes(from_state))]
pub fn derive_from_state(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    from_state::derive(&input).into()
}

/// Reports what is wrong with a handler function in its own code: `#[asynqueue::process]`. The function does not
/// change, and can be registered with or without the attribute.
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
/// It has no cost at run time. It finds:
///
/// - a function that is not async, is generic, or has a `self`;
/// - no payload, two payloads, a payload whose type is not a task, or more than eight arguments;
/// - an argument that is taken by reference or cannot be built;
/// - a return type that is not a `Result` of the task's output, or whose error does not convert to a `TaskError`;
/// - a future that is not `Send`, with the value that it holds across an `await`.
///
/// It goes above free functions, not above functions in an `impl`.
///
/// # Attributes
///
/// | attribute | meaning | default |
/// |---|---|---|
/// | `#[process(blocking)]` | The function is a plain `fn`, for `process_blocking`. | async |
/// | `#[process(crate = path)]` | The path of the framework, for crates that rename or wrap it. | `::asynqueue` |
#[proc_macro_attribute]
pub fn process(attribute: TokenStream, item: TokenStream) -> TokenStream {
    handler::check(attribute.into(), item.into()).into()
}
