//! The derives of asynqueue.

mod attribute;
mod duration;
mod from_state;
mod mistakes;
mod suggest;
mod task;
mod value;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes a payload a task.
#[proc_macro_derive(Task, attributes(task))]
pub fn derive_task(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    task::derive(&input).into()
}

/// Builds a process from the state.
#[proc_macro_derive(FromState, attributes(from_state))]
pub fn derive_from_state(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    from_state::derive(&input).into()
}
