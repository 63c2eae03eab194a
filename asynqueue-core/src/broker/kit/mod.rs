//! What stores share.

mod announcer;
mod clock;
mod coalesce;
pub mod io;
mod lanes;
mod pem;
pub mod promised;
mod stored;

pub use self::{
    announcer::{Announced, Announcer, Heard, Note},
    clock::ServerClock,
    coalesce::Coalescer,
    lanes::{Lanes, Used},
    pem::read_pem,
    stored::{Read, Stored},
};
