//! The servers that Redis consists of.

use std::collections::HashMap;

use asynqueue_core::broker::{BrokerError, Node};

use super::{
    Link,
    server::{field, product, send_to_any},
};
use crate::reply;

impl Link {
    pub(crate) fn is_cluster(&self) -> bool {
        self.0.server.is_cluster
    }

    /// The servers, with what the masters among them tell of themselves.
    pub(crate) async fn nodes(&self) -> Result<Vec<Node>, BrokerError> {
        let mut told = HashMap::new();
        for section in [
            "server",
            "clients",
            "memory",
            "persistence",
            "stats",
            "replication",
        ] {
            for (address, info) in self.info(section).await? {
                told.entry(address)
                    .or_insert_with(String::new)
                    .push_str(&info);
            }
        }
        if !self.is_cluster() {
            return Ok(told
                .into_iter()
                .flat_map(|(address, info)| with_replicas(address, &info))
                .collect());
        }
        let unavailable = |error: redis::RedisError| {
            BrokerError::unavailable(format!("Redis at {}: {error}", self.0.address))
                .caused_by(error)
        };
        let held = self.0.holders[0].held().await.map_err(unavailable)?;
        let mut command = redis::cmd("CLUSTER");
        command.arg("NODES");
        let answer = send_to_any(&held, &command).await.map_err(unavailable)?;
        let table = reply::text(answer)?;
        let mut members: Vec<_> = table.lines().filter_map(member).collect();
        members.sort_by(|a, b| (&b.slots, &a.address).cmp(&(&a.slots, &b.address)));
        let node = |member: Member| {
            let info = told.get(&member.address).map_or("", String::as_str);
            member.node(info)
        };
        Ok(members.into_iter().map(node).collect())
    }
}

/// What operators look at, as Redis names it.
const TOLD: [&str; 23] = [
    "uptime_in_seconds",
    "connected_clients",
    "blocked_clients",
    "used_memory",
    "used_memory_peak",
    "maxmemory",
    "maxmemory_policy",
    "mem_fragmentation_ratio",
    "loading",
    "rdb_last_bgsave_status",
    "rdb_last_save_time",
    "aof_enabled",
    "aof_last_write_status",
    "instantaneous_ops_per_sec",
    "total_commands_processed",
    "rejected_connections",
    "expired_keys",
    "evicted_keys",
    "keyspace_hits",
    "keyspace_misses",
    "connected_slaves",
    "master_link_status",
    "master_last_io_seconds_ago",
];

/// A server of Redis, and which part of the data it keeps.
#[derive(Debug, PartialEq, Eq)]
struct Member {
    address: String,
    role: &'static str,
    /// The first and last of the slots that it keeps, in a Cluster.
    slots: Vec<(u16, u16)>,
}

const PRIMARY: &str = "primary";
const REPLICA: &str = "replica";

impl Member {
    /// With what it reports of itself, which is empty for one that was not asked.
    fn node(self, info: &str) -> Node {
        let told = TOLD
            .iter()
            .filter_map(|name| Some((*name, field(info, name)?.to_owned())));
        let slots = self
            .slots
            .iter()
            .map(|(first, last)| format!("{first}-{last}"));
        let slots = slots.collect::<Vec<_>>().join(" ");
        let own = [("role", self.role.to_owned()), ("slots", slots)];
        let own = own.into_iter().filter(|(_, value)| !value.is_empty());
        Node {
            address: self.address,
            version: product(info).unwrap_or_default(),
            memory: field(info, "used_memory").and_then(|bytes| bytes.parse().ok()),
            info: (own.chain(told))
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        }
    }
}

/// A server that is no Cluster's, and those that follow it.
fn with_replicas(address: String, info: &str) -> Vec<Node> {
    let member = |address, role| Member {
        address,
        role,
        slots: Vec::new(),
    };
    let role = match field(info, "role") {
        Some("slave") => REPLICA,
        _ => PRIMARY,
    };
    let primary = member(address, role).node(info);
    let replicas = info.lines().filter_map(|line| {
        let (name, told) = line.split_once(':')?;
        name.strip_prefix("slave")?.parse::<u32>().ok()?;
        let part = |key| {
            let mut parts = told
                .trim()
                .split(',')
                .filter_map(|part| part.split_once('='));
            parts.find_map(|(name, value)| (name == key).then_some(value))
        };
        let address = format!("{}:{}", part("ip")?, part("port")?);
        Some(member(address, REPLICA).node(""))
    });
    std::iter::once(primary).chain(replicas).collect()
}

/// A line of `CLUSTER NODES`: id, address, flags, master, ping, pong, epoch, state, slots.
fn member(line: &str) -> Option<Member> {
    let mut words = line.split(' ');
    let address = words.nth(1)?.split('@').next()?.to_owned();
    let flags = words.next()?;
    if flags.contains("noaddr") || flags.contains("handshake") {
        return None;
    }
    let is_primary = flags.split(',').any(|flag| flag == "master");
    let slots = words.skip(5).filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        // One that is being moved is in brackets, and still where it was.
        Some((first.parse().ok()?, last.parse().ok()?))
    });
    Some(Member {
        address,
        role: if is_primary { PRIMARY } else { REPLICA },
        slots: slots.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_a_cluster_is_read() {
        let line = "07c3 127.0.0.1:30004@31004,host myself,master - 0 1426 1 connected 0-5460 5462 [93->-292f]";
        let node = member(line).expect("a node");
        assert_eq!(node.address, "127.0.0.1:30004");
        assert_eq!(node.role, PRIMARY);
        assert_eq!(node.slots, [(0, 5460), (5462, 5462)]);
        let slots = ("slots".to_owned(), "0-5460 5462-5462".to_owned());
        assert_eq!(node.node("").info[1], slots);
        let replica = member("e7d1 127.0.0.1:30005@31005 slave 07c3 0 1426 1 connected");
        let replica = replica.expect("a node");
        assert_eq!((replica.role, replica.slots.len()), (REPLICA, 0));
    }

    #[test]
    fn replicas_of_a_single_server_are_named() {
        let info = "role:master\r\nconnected_slaves:1\r\nslave0:ip=10.0.0.2,port=6379,state=online\r\n\
                    redis_version:7.0.15\r\nused_memory:1000\r\n";
        let nodes = with_replicas("10.0.0.1:6379".into(), info);
        assert_eq!(nodes[0].version, "redis 7.0.15");
        assert_eq!(nodes[0].memory, Some(1000));
        let told = ("used_memory".to_owned(), "1000".to_owned());
        assert!(nodes[0].info.contains(&told));
        let role = |role: &str| ("role".to_owned(), role.to_owned());
        assert_eq!(nodes[0].info[0], role(PRIMARY));
        assert_eq!(nodes[1].info, [role(REPLICA)]);
        assert_eq!(nodes[1].address, "10.0.0.2:6379");
    }
}
