//! What stores across a network share.

mod announcer;
mod clock;
mod coalesce;
pub mod io;
mod pem;
pub mod promised;

pub use self::{
    announcer::{Announced, Announcer, Heard, Note},
    clock::ServerClock,
    coalesce::Coalescer,
    pem::read_pem,
};
