//! Values shared by all handlers of a server.

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    error::Error,
    fmt,
    ops::Deref,
    sync::Arc,
};

/// The values passed to [`ServerBuilder::state`](crate::server::ServerBuilder::state), one per type.
#[derive(Clone, Default)]
pub struct ServerState(Arc<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

impl ServerState {
    /// Stores `value` under its type, replacing any other value of the same type.
    pub fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        Arc::make_mut(&mut self.0).insert(TypeId::of::<T>(), Arc::new(value));
    }

    /// Returns the value of type `T`.
    ///
    /// # Errors
    ///
    /// If the server has no such value.
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

/// The state has no value of the requested type.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MissingState(#[source] Missing);

/// The error again as its own cause, because inside an `anyhow::Error` only the causes can be downcast.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("no shared state of type `{type_name}`: add it to the server with `.state(…)`")]
struct Missing {
    type_name: &'static str,
}

crate::debug_as_text!(MissingState, Missing);

impl MissingState {
    fn of<T>() -> Self {
        let type_name = type_name::<T>();
        Self(Missing { type_name })
    }

    /// The missing type, as [`type_name`] formats it.
    pub fn type_name(&self) -> &'static str {
        self.0.type_name
    }

    /// Whether `link` of a chain of causes is this error.
    pub(super) fn is(link: &(dyn Error + 'static)) -> bool {
        link.is::<Self>() || link.is::<Missing>()
    }
}

/// A shared value as an argument of a handler, cloned from the value passed to
/// [`ServerBuilder::state`](crate::server::ServerBuilder::state). Dereferences to `T`. A server without a value of this
/// type cannot be built.
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

/// Builds a value from the server's shared state: a handler registered by `#[task(process = …)]`, when the server is
/// built, or an argument of a handler, for each attempt.
///
/// Derived with `#[derive(FromState)]`, which clones each field from the state by its type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be built from the server's state",
    note = "put `#[derive(FromState)]` on it, or implement `FromState`"
)]
pub trait FromState: Sized {
    /// Builds the value.
    ///
    /// # Errors
    ///
    /// If the state lacks a value that it needs.
    fn from_state(state: &ServerState) -> Result<Self, MissingState>;
}
