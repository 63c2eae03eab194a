//! Errors of invalid options.

use std::path::PathBuf;

/// Invalid options. No message shows a user or a password.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// The URL has no scheme.
    #[error("the Redis URL has no scheme: write `redis://host:6379`")]
    NoScheme,
    /// The scheme is unknown.
    #[error(
        "unknown scheme `{0}`: expected redis, rediss, redis+sentinel, rediss+sentinel, redis+cluster or rediss+cluster"
    )]
    Scheme(String),
    /// The URL requires TLS, and the feature `tls` is off.
    #[error(
        "`{0}://` requires TLS, which this program is built without: enable the feature `tls` of asynqueue"
    )]
    NoTls(String),
    /// The URL has no host.
    #[error("the Redis URL has no host: write `{0}://host:port`")]
    NoHost(String),
    /// A host or its port is invalid.
    #[error("invalid host `{0}`: expected `host:6379`, with an IPv6 address in brackets")]
    Host(String),
    /// Several hosts in the URL of a single server.
    #[error("`{0}://` takes one host, found {1}: write `{0}+cluster://` or `{0}+sentinel://`")]
    ManyHosts(String, usize),
    /// The database is not a number.
    #[error("invalid database `{0}`: expected a number such as `/0`, or nothing")]
    Database(String),
    /// A database other than 0 in the URL of a Cluster.
    #[error(
        "database `/{0}` does not exist: a Cluster has only database 0; remove it and set a `prefix` to separate programs"
    )]
    ClusterDatabase(i64),
    /// The URL of Sentinels does not name a master.
    #[error(
        "the Sentinel URL has no master: add `?master=name` with the master name that the Sentinels monitor"
    )]
    NoMaster,
    /// A part of the URL is not percent-encoded UTF-8.
    #[error(
        "user or password is not percent-encoded UTF-8: encode special characters, such as `%` as `%25` and `?` as `%3F`"
    )]
    Encoding,
    /// The parameter is unknown.
    #[error("unknown parameter `{name}`: {hint}")]
    Parameter {
        /// The name of the parameter.
        name: String,
        /// A similar parameter, or all parameters.
        hint: String,
    },
    /// The parameter belongs to another kind of URL.
    #[error("parameter `{name}` requires a `{scheme}` URL")]
    Misplaced {
        /// The name of the parameter.
        name: String,
        /// The scheme that it requires.
        scheme: &'static str,
    },
    /// The value of a parameter is invalid.
    #[error("parameter `{name}` is `{value}`: {expected}")]
    Value {
        /// The name of the parameter.
        name: String,
        /// The value in the URL.
        value: String,
        /// The values that are valid.
        expected: String,
    },
    /// The prefix would break the hash tags of the keys.
    #[error(
        "prefix `{0}` is invalid: expected at least one character, without braces, white space or control characters"
    )]
    Prefix(String),
    /// A certificate file cannot be read.
    #[error("cannot read `{file}` for parameter `{name}`: {reason}", file = file.display())]
    File {
        /// The name of the parameter.
        name: &'static str,
        /// The path of the file.
        file: PathBuf,
        /// The cause.
        reason: String,
    },
    /// A client certificate without its key, or a key without its certificate.
    #[error("`cert` and `key` are required together: {0} is missing")]
    HalfCertificate(&'static str),
    /// The pool and the URL are of different kinds, so calls and notifications would use different servers.
    #[error(
        "the pool connects to {pool} and the URL to {url}: use the URL of the servers that the pool connects to"
    )]
    Pool {
        /// What the pool connects to.
        pool: &'static str,
        /// What the URL connects to.
        url: &'static str,
    },
    /// The pool is smaller than the number of connections that the broker keeps while it exists.
    #[error(
        "`max_size` of the pool is {max_size}, but the broker keeps {pool_size} connections (`pool_size`): raise `max_size` to the sum that all users of the pool need"
    )]
    PoolSize {
        /// The largest number of connections in the pool.
        max_size: usize,
        /// The number of connections that the broker keeps.
        pool_size: usize,
    },
    /// The pool and the URL name different databases, so calls and notifications would use different ones.
    #[error(
        "the pool uses database {pool}, but the URL names database {url}: use the same database in the URL, as in `redis://host/{pool}`"
    )]
    PoolDatabase {
        /// The database of the pool's connections.
        pool: i64,
        /// The database in the URL.
        url: i64,
    },
    /// redis-rs rejected the options.
    #[error("invalid Redis options: {0}")]
    Client(String),
}

asynqueue_core::debug_as_text!(OptionsError);
