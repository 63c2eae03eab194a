//! What can be wrong with options.

use std::path::PathBuf;

/// Options that make no sense. No message shows a user or a password.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// There is no scheme.
    #[error("the URL of Redis has no scheme: write `redis://host:6379`")]
    NoScheme,
    /// The scheme is none of those known.
    #[error(
        "unknown scheme `{0}`: it is one of redis, rediss, redis+sentinel, rediss+sentinel, redis+cluster and rediss+cluster"
    )]
    Scheme(String),
    /// The URL asks for TLS, and the feature `tls` is off.
    #[error(
        "`{0}://` requires TLS, which this program is built without: enable the feature `tls` of asynqueue"
    )]
    NoTls(String),
    /// There is no host.
    #[error("the URL of Redis names no host: write `{0}://host:port`")]
    NoHost(String),
    /// A host or its port makes no sense.
    #[error("`{0}` is not a host with a port: write `host:6379`, and an IPv6 address in brackets")]
    Host(String),
    /// One server cannot be several.
    #[error(
        "`{0}://` takes one host, and {1} are named: write `{0}+cluster://` or `{0}+sentinel://`"
    )]
    ManyHosts(String, usize),
    /// The database's number is none.
    #[error("`{0}` is not the number of a database: write `/0`, or nothing")]
    Database(String),
    /// A Cluster has only one database.
    #[error(
        "a Cluster has only database 0, and `/{0}` is asked for: leave it out, and keep apart by `prefix`"
    )]
    ClusterDatabase(i64),
    /// Sentinels have to be asked for something.
    #[error(
        "the URL of Sentinels names no master: add `?master=name`, the name that they know it by"
    )]
    NoMaster,
    /// What is not percent-encoded as it should be.
    #[error(
        "user or password is not percent-encoded UTF-8: encode special characters, `%` as `%25`"
    )]
    Encoding,
    /// A parameter that is not known.
    #[error("unknown parameter `{name}`: {hint}")]
    Parameter {
        /// Its name.
        name: String,
        /// What it could be.
        hint: String,
    },
    /// A parameter that belongs to another kind of URL.
    #[error("parameter `{name}` makes sense only with `{scheme}`")]
    Misplaced {
        /// Its name.
        name: String,
        /// What it goes with.
        scheme: &'static str,
    },
    /// A parameter's value makes no sense.
    #[error("parameter `{name}` is `{value}`: {expected}")]
    Value {
        /// The parameter.
        name: String,
        /// Its value.
        value: String,
        /// What it should be.
        expected: String,
    },
    /// What keys begin with would break their hash tags.
    #[error(
        "prefix `{0}`: it has at least one character, and no braces, white space or control characters"
    )]
    Prefix(String),
    /// A file of certificates cannot be read.
    #[error("cannot read `{file}`, given as `{name}`: {reason}", file = file.display())]
    File {
        /// The parameter.
        name: &'static str,
        /// The file.
        file: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A certificate is of no use without its key, and the other way round.
    #[error("`cert` and `key` go together: {0} is missing")]
    HalfCertificate(&'static str),
    /// Calls and notifications would go to different places.
    #[error(
        "the pool leads to {pool}, and the URL to {url}: give the URL of what the pool leads to"
    )]
    Pool {
        /// What the pool leads to.
        pool: &'static str,
        /// What the URL leads to.
        url: &'static str,
    },
    /// A broker holds its connections for as long as it lives.
    #[error(
        "the pool has {max_size} connections at most (`max_size`), and the broker holds {pool_size} of them (`pool_size`): raise `max_size` to what all that share the pool need"
    )]
    PoolSize {
        /// The most connections that the pool makes.
        max_size: usize,
        /// How many the broker holds.
        pool_size: usize,
    },
    /// Calls would be of one database, and notifications of another.
    #[error(
        "the connections of the pool are of database {pool}, and the URL names {url}: give the URL the database of the pool, as in `redis://host/{pool}`"
    )]
    PoolDatabase {
        /// The database of the pool's connections.
        pool: i64,
        /// The database that the URL names.
        url: i64,
    },
    /// redis-rs takes the options for wrong.
    #[error("Redis options: {0}")]
    Client(String),
}

asynqueue_core::debug_as_text!(OptionsError);
