//! The Redis broker of asynqueue.

mod link;
mod options;

pub use self::options::RedisOptions;
