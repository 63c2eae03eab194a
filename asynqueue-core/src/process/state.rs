//! Values that all processes of a server share.

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    fmt,
    sync::Arc,
};

/// The values given to [`ServerBuilder::state`](crate::ServerBuilder::state), one per type.
#[derive(Clone, Default)]
pub struct State(Arc<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

impl State {
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
            .ok_or(MissingState {
                type_name: type_name::<T>(),
            })
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "State({} values)", self.0.len())
    }
}

/// The state has no value of a type that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no shared state of type `{type_name}`: give the server one with `.state(…)`")]
pub struct MissingState {
    type_name: &'static str,
}

/// Builds a process from the server's shared state, for processes that `#[task(process = …)]` registers.
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
    fn from_state(state: &State) -> Result<Self, MissingState>;
}
