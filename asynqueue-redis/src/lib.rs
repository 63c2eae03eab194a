//! The Redis broker of asynqueue.

mod broker;
mod keys;
mod lanes;
mod link;
mod options;
mod reply;
mod script;

pub use self::{
    broker::RedisBroker,
    link::ConnectError,
    options::{OptionsError, RedisOptions, RedisPool},
};
