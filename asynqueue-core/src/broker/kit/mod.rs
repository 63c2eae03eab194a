//! What stores across a network share.

mod announcer;
mod clock;
mod coalesce;
pub mod io;
pub mod promised;

pub use self::{
    announcer::{Announced, Announcer, Heard, Note},
    clock::ServerClock,
    coalesce::Coalescer,
};
