//! What stores share.

mod announcer;
mod clock;
mod coalesce;
pub mod io;
pub mod promised;
mod stored;

pub use self::{
    announcer::{Announced, Announcer, Heard, Note},
    clock::ServerClock,
    coalesce::Coalescer,
    stored::{Read, Stored},
};
