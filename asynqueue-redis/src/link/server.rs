//! What kind of server this is.

use std::{collections::HashMap, sync::Arc};

use asynqueue_core::broker::Durability;
use futures_util::future::try_join_all;
use redis::{
    Arg, Cmd, FromRedisValue, RedisError, Value,
    cluster_routing::{RoutingInfo, SingleNodeRoutingInfo},
};

use super::{
    connection::{Connection, Held, Holder},
    denied::{Denied, User},
    error::{ConnectError, LoginError, plain},
};
use crate::options::{OptionsError, RedisOptions, Topology};

/// The oldest version with all required commands.
const OLDEST: (u64, u64) = (6, 2);

/// The first version that reports when a change is on disk.
const WITH_WAITAOF: (u64, u64) = (7, 2);

/// What the server reported on connect.
pub(super) struct ServerInfo {
    pub(super) is_cluster: bool,
    version: (u64, u64),
    /// Product and version, for messages.
    product: String,
    /// The size limit of an argument in bytes.
    largest_argument: usize,
}

/// The default of `proto-max-bulk-len`, used if the server does not report it.
const USUAL_LARGEST_ARGUMENT: usize = 512 * 1024 * 1024;

impl ServerInfo {
    /// Queries the server, and refuses one that cannot store tasks.
    pub(super) async fn ask(
        holders: &[Holder],
        options: &RedisOptions,
        user: &User,
    ) -> Result<Self, ConnectError> {
        let address = options.address();
        let failed = |error: RedisError| failed(&error, options, user);
        let held = match holders.first() {
            Some(holder) => holder.held().await.map_err(failed)?,
            None => unreachable!("a pool has at least one connection"),
        };
        let info = info(&held, "server").await.map_err(failed)?;
        let wants_cluster = matches!(options.topology, Topology::Cluster);
        if is_node_of_cluster(&info) && !wants_cluster {
            return Err(ConnectError::IsCluster { address });
        }
        let found = field(&info, "redis_version").unwrap_or("unknown");
        let version = version(found).unwrap_or_default();
        if version < OLDEST {
            let found = found.to_owned();
            return Err(ConnectError::TooOld { address, found });
        }
        warn_of_eviction(&held, &address).await;
        let server = Self {
            is_cluster: wants_cluster,
            version,
            product: product(&info).unwrap_or_default(),
            largest_argument: largest_argument(&held).await,
        };
        let durability = options.durability;
        let offered = match server.offers(durability) {
            Ok(()) if durability == Durability::Fsync => writes_to_disk(&held).await,
            offered => offered,
        };
        match offered {
            Ok(()) => Ok(server),
            Err(reason) => Err(ConnectError::Durability { address, reason }),
        }
    }

    /// Refuses a durability that this version has no command for.
    pub(super) fn offers(&self, durability: Durability) -> Result<(), String> {
        match durability {
            Durability::Fsync if self.version < WITH_WAITAOF => Err(format!(
                "durability `fsync` requires `WAITAOF` of Redis 7.2 or later, found {}: use `replicas=1`, or remove it",
                self.product
            )),
            Durability::Primary | Durability::Replicas(_) | Durability::Fsync => Ok(()),
            other => Err(format!("durability `{other}` is not supported")),
        }
    }

    /// Why this command can never succeed, if it cannot: Redis closes the connection on an argument that is too large,
    /// which looks like a lost connection.
    pub(super) fn refuses(&self, command: &Cmd) -> Option<String> {
        let size = |arg| match arg {
            Arg::Simple(bytes) => <[u8]>::len(bytes),
            _ => 0,
        };
        let largest = command.args_iter().map(size).max()?;
        let limit = self.largest_argument;
        (largest > limit).then(|| {
            format!("an argument of {largest} bytes exceeds `proto-max-bulk-len` of Redis ({limit}): send smaller payloads, or raise it")
        })
    }

    /// Whether channels are sharded, so that a message does not reach every node.
    pub(super) fn has_sharded_channels(&self) -> bool {
        self.is_cluster && self.version >= (7, 0)
    }
}

/// Redis and Valkey name this field differently.
fn is_node_of_cluster(info: &str) -> bool {
    let modes = [field(info, "redis_mode"), field(info, "server_mode")];
    modes.contains(&Some("cluster"))
}

/// Product and version, such as `redis 7.0.15` or `valkey 9.1.2`. A fork also reports the Redis version that it is
/// compatible with.
pub(super) fn product(info: &str) -> Option<String> {
    let own = field(info, "server_name").and_then(|name| {
        let version = field(info, &format!("{name}_version"))?;
        Some(format!("{name} {version}"))
    });
    own.or_else(|| Some(format!("redis {}", field(info, "redis_version")?)))
}

/// Takes the broker's connections from the program's own pool, to report at connect if the pool is too small, and
/// checks that they use the database that the channels are named after.
pub(super) async fn check_pool(
    holders: &[Holder],
    options: &RedisOptions,
    user: &User,
) -> Result<(), ConnectError> {
    let taken = try_join_all(holders.iter().map(Holder::held)).await;
    let taken = taken.map_err(|error| {
        if error.is_timeout() {
            let (address, reason) = (options.address(), error.to_string());
            return ConnectError::Pool { address, reason };
        }
        failed(&error, options, user)
    })?;
    if matches!(options.topology, Topology::Cluster) {
        return Ok(());
    }
    for held in taken {
        let mut command = redis::cmd("CLIENT");
        command.arg("INFO");
        // Without permission for `CLIENT INFO`, the URL is trusted.
        let Ok(Value::BulkString(info)) = held.send(&command).await else {
            return Ok(());
        };
        let info = String::from_utf8_lossy(&info);
        let db = info.split(' ').find_map(|part| part.strip_prefix("db="));
        match db.and_then(|db| db.parse().ok()) {
            Some(pool) if pool != options.db => {
                let url = options.db;
                return Err(OptionsError::PoolDatabase { pool, url }.into());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Eviction removes complete keys, and with a key all tasks of a queue. A `volatile-…` policy removes only keys that
/// expire; keys of tasks do not.
async fn warn_of_eviction(held: &Arc<Held>, address: &str) {
    let Ok(info) = info(held, "memory").await else {
        return;
    };
    match field(&info, "maxmemory_policy") {
        Some(policy) if policy.starts_with("allkeys-") => tracing::warn!(
            address,
            policy,
            "Redis may evict tasks when memory runs out; set `maxmemory-policy` to `noeviction`"
        ),
        _ => {}
    }
}

/// Refuses a server without an append-only file.
async fn writes_to_disk(held: &Held) -> Result<(), String> {
    // If the server does not report it, the first call shows it.
    let info = info(held, "persistence").await.unwrap_or_default();
    match field(&info, "aof_enabled") {
        Some("0") => Err("durability `fsync` requires `appendonly yes`: turn it on in Redis, or use `replicas=1`".to_owned()),
        _ => Ok(()),
    }
}

async fn largest_argument(held: &Held) -> usize {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg("proto-max-bulk-len");
    // Not every user has the permission, and some hosted services deny it to all.
    let answer = send_to_any(held, &command).await;
    let limits = answer.and_then(|value| Ok(HashMap::<String, usize>::from_redis_value(value)?));
    let limit = limits.ok().and_then(|limits| limits.into_values().next());
    limit.unwrap_or(USUAL_LARGEST_ARGUMENT)
}

async fn info(held: &Held, section: &str) -> Result<String, RedisError> {
    let mut command = redis::cmd("INFO");
    command.arg(section);
    match send_to_any(held, &command).await? {
        Value::BulkString(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Value::VerbatimString { text, .. } | Value::SimpleString(text) => Ok(text),
        _ => Ok(String::new()),
    }
}

/// Sends a command that any node of a Cluster can execute.
pub(super) async fn send_to_any(held: &Held, command: &Cmd) -> Result<Value, RedisError> {
    match held.connection() {
        Connection::Node(_) => held.send(command).await,
        Connection::Cluster(mut cluster) => {
            let any = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
            cluster
                .route_command(command.clone(), any)
                .await?
                .extract_error()
        }
    }
}

pub(super) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = info.lines().filter_map(|line| line.split_once(':'));
    fields.find_map(|(key, value)| (key == name).then_some(value.trim()))
}

fn version(text: &str) -> Option<(u64, u64)> {
    let mut parts = text.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn failed(error: &RedisError, options: &RedisOptions, user: &User) -> ConnectError {
    let (address, text) = (options.address(), error.to_string());
    if text.contains("cluster support disabled") {
        let address = options.hosts();
        return ConnectError::NoCluster { address };
    }
    let reason = plain(error);
    if let Some(denied) = Denied::of(error, &text) {
        let reason = denied.explain_as(&reason, None, user);
        return ConnectError::Refused { address, reason };
    }
    if let Some(login) = LoginError::of(error, &text) {
        return match (login, &options.topology) {
            // The error does not contain whether a Sentinel or the master returned it.
            (login, Topology::Sentinel { .. }) => ConnectError::Refused {
                address,
                reason: login.of_sentinels().to_owned(),
            },
            (LoginError::Missing, _) => ConnectError::NoLogin { address },
            (LoginError::Wrong, _) => ConnectError::WrongLogin { address },
        };
    }
    if text.contains("DB index is out of range") {
        let db = options.db;
        return ConnectError::NoDatabase { address, db };
    }
    let reason = match unreachable_hint(error, &text, options) {
        Some(hint) => format!("{reason}: {hint}"),
        None => reason,
    };
    ConnectError::Unreachable { address, reason }
}

/// The fix for a connection that could not be opened.
fn unreachable_hint(
    error: &RedisError,
    text: &str,
    options: &RedisOptions,
) -> Option<&'static str> {
    let contains = |signs: &[&str]| signs.iter().any(|sign| text.contains(sign));
    let is_absent = error.is_connection_refusal()
        // The connections of a Cluster report the kind only in their text.
        || contains(&["Connection refused", "failed to lookup address information"]);
    if is_absent {
        return Some("check the URL and that Redis is running");
    }
    // A server without TLS waits for the end of a command, or closes the connection.
    let is_silent =
        error.is_timeout() || contains(&["timed out", "handshake eof", "corrupt message"]);
    let is_tls = options.tls.is_some();
    (is_tls && is_silent)
        .then_some("if the port does not serve TLS, write `redis` instead of `rediss` in the URL")
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALKEY: &str = "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\nserver_mode:cluster\r\n";

    #[test]
    fn a_node_of_a_cluster_is_recognised_by_either_name() {
        assert!(is_node_of_cluster(
            "redis_version:7.0.15\r\nredis_mode:cluster\r\n"
        ));
        assert!(is_node_of_cluster(VALKEY));
        for single in [
            "redis_mode:standalone\r\n",
            "server_mode:standalone\r\n",
            "",
        ] {
            assert!(!is_node_of_cluster(single), "{single}");
        }
    }

    #[test]
    fn a_product_has_its_own_name_and_version() {
        assert_eq!(product(VALKEY).as_deref(), Some("valkey 9.1.2"));
        let redis = product("redis_version:7.0.15\r\nredis_mode:cluster\r\n");
        assert_eq!(redis.as_deref(), Some("redis 7.0.15"));
        assert_eq!(product(""), None);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(version("6.0.16") < Some(OLDEST));
        assert!(version("10.0.0") > Some(OLDEST));
        assert_eq!(version("7.0.15"), Some((7, 0)));
        assert_eq!(
            field("# Server\r\nredis_version:7.2.4\r\n", "redis_version"),
            Some("7.2.4")
        );
    }
}
