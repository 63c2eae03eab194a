//! Values that all handlers of a server share.

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    error::Error,
    fmt,
    ops::Deref,
    sync::Arc,
};

/// The values given to [`ServerBuilder::state`](crate::server::ServerBuilder::state), one per type.
#[derive(Clone, Default)]
pub struct ServerState(Arc<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

impl ServerState {
    /// Keeps `value` under its type, in place of another of the same type.
    pub fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        Arc::make_mut(&mut self.0).insert(TypeId::of::<T>(), Arc::new(value));
    }

    /// The value of type `T`.
    ///
    /// # Errors
    ///
    /// When the server was given none.
    pub fn get<T: Send + Sync + 'static>(&self) -> Result<&T, MissingState> {
        self.0
            .get(&TypeId::of::<T>())
            .and_then(|value| value.downcast_ref())
            .ok_or_else(MissingState::of::<T>)
    }
}

impl fmt::Debug for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerState({} values)", self.0.len())
    }
}

/// The state has no value of a type that was asked for.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MissingState(#[source] Missing);

/// The same once more as its own cause, which is all that can be found again of an error in `anyhow::Error`'s box.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("no shared state of type `{type_name}`: give the server one with `.state(…)`")]
struct Missing {
    type_name: &'static str,
}

crate::debug_as_text!(MissingState, Missing);

impl MissingState {
    fn of<T>() -> Self {
        let type_name = type_name::<T>();
        Self(Missing { type_name })
    }

    /// The type, as [`type_name`] writes it.
    pub fn type_name(&self) -> &'static str {
        self.0.type_name
    }

    /// Whether `link` of a chain of causes is one.
    pub(super) fn is(link: &(dyn Error + 'static)) -> bool {
        link.is::<Self>() || link.is::<Missing>()
    }
}

/// A shared value as an argument of a handler, cloned from what [`ServerBuilder::state`](crate::server::ServerBuilder::state)
/// was given; derefs to it. A server that was given none of this type is refused when it is built.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use asynqueue_core::{
///     memory::MemoryBroker,
///     process::{Payload, State, TaskError},
///     server::Server,
/// };
/// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
/// # #[task(event = "email:welcome", crate = asynqueue_core)]
/// # struct Welcome { address: String }
///
/// #[derive(Clone)]
/// struct Mailer {
///     host: &'static str,
/// }
///
/// async fn welcome(task: Payload<Welcome>, mailer: State<Mailer>) -> Result<(), TaskError> {
///     println!("to {} by {}", task.address, mailer.host);
///     Ok(())
/// }
///
/// let server = Server::builder(MemoryBroker::new()).process(welcome);
/// let error = server.build().err().expect("the mailer is missing");
/// assert!(error.to_string().contains("Mailer"), "{error}");
///
/// let mailer = Mailer { host: "smtp.example.com" };
/// Server::builder(MemoryBroker::new()).state(mailer).process(welcome).build()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State<T>(pub T);

impl<T> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone + Send + Sync + 'static> FromState for State<T> {
    fn from_state(state: &ServerState) -> Result<Self, MissingState> {
        state.get::<T>().cloned().map(Self)
    }
}

/// Builds a value from the server's shared state: a process that `#[task(process = …)]` registers, when the server is
/// built, or an argument of a handler, for each attempt.
///
/// Derived with `#[derive(FromState)]`, which clones each field from the state by its type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be built from the server's state",
    note = "put `#[derive(FromState)]` on it, or implement `FromState`"
)]
pub trait FromState: Sized {
    /// Builds it.
    ///
    /// # Errors
    ///
    /// When the state lacks a value that it needs.
    fn from_state(state: &ServerState) -> Result<Self, MissingState>;
}
