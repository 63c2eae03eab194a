//! The servers of a deployment.

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

    /// The servers, with the `INFO` fields of the masters.
    pub(crate) async fn nodes(&self) -> Result<Vec<Node>, BrokerError> {
        let mut reported = HashMap::new();
        for section in [
            "server",
            "clients",
            "memory",
            "persistence",
            "stats",
            "replication",
        ] {
            for (address, info) in self.info(section).await? {
                reported
                    .entry(address)
                    .or_insert_with(String::new)
                    .push_str(&info);
            }
        }
        if !self.is_cluster() {
            return Ok(reported
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
        let mut nodes: Vec<_> = table.lines().filter_map(member).collect();
        for (_, node) in &mut nodes {
            if let Some(info) = reported.get(&node.address) {
                note_info(node, info);
            }
        }
        // Nodes with slots come first, in slot order.
        nodes.sort_by(|(slot_a, a), (slot_b, b)| {
            let slots = (slot_a.is_none(), slot_a).cmp(&(slot_b.is_none(), slot_b));
            slots.then(a.address.cmp(&b.address))
        });
        Ok(nodes.into_iter().map(|(_, node)| node).collect())
    }
}

/// The `INFO` fields for operators, by their names in Redis.
const FIELDS: [&str; 23] = [
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

fn note_info(node: &mut Node, info: &str) {
    if let Some(product) = product(info) {
        node.version = product;
    }
    node.memory = field(info, "used_memory").and_then(|bytes| bytes.parse().ok());
    let found = FIELDS.iter().filter_map(|name| {
        let value = field(info, name)?;
        Some(((*name).to_owned(), value.to_owned()))
    });
    node.info.extend(found);
}

/// A server of which only the role is known.
fn node(address: String, role: &str) -> Node {
    let mut node = Node::new(address, String::new());
    node.info = vec![("role".into(), role.into())];
    node
}

const PRIMARY: &str = "primary";
const REPLICA: &str = "replica";

/// A single server with its replicas.
fn with_replicas(address: String, info: &str) -> Vec<Node> {
    let role = match field(info, "role") {
        Some("slave") => REPLICA,
        _ => PRIMARY,
    };
    let mut primary = node(address, role);
    note_info(&mut primary, info);
    let replicas = info.lines().filter_map(|line| {
        let (name, reported) = line.split_once(':')?;
        name.strip_prefix("slave")?.parse::<u32>().ok()?;
        let part = |key| {
            let mut parts = reported
                .trim()
                .split(',')
                .filter_map(|part| part.split_once('='));
            parts.find_map(|(name, value)| (name == key).then_some(value))
        };
        let address = format!("{}:{}", part("ip")?, part("port")?);
        Some(node(address, REPLICA))
    });
    std::iter::once(primary).chain(replicas).collect()
}

/// A line of `CLUSTER NODES`: id, address, flags, master, ping, pong, epoch, state, slots. With the first of its slots.
fn member(line: &str) -> Option<(Option<u16>, Node)> {
    let mut words = line.split(' ');
    let address = words.nth(1)?.split('@').next()?.to_owned();
    let flags = words.next()?;
    if flags.contains("noaddr") || flags.contains("handshake") {
        return None;
    }
    let is_master = flags.split(',').any(|flag| flag == "master");
    let mut node = node(address, if is_master { PRIMARY } else { REPLICA });
    // A slot that is being moved is in brackets, and still on this node.
    let slots: Vec<_> = words
        .skip(5)
        .filter(|range| !range.starts_with('['))
        .collect();
    let first = slots.first().and_then(|range| range.split('-').next());
    let first = first.and_then(|first| first.parse().ok());
    if first.is_some() {
        node.info.push(("slots".into(), slots.join(", ")));
    }
    Some((first, node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_a_cluster_is_read() {
        let line = "07c3 127.0.0.1:30004@31004,host myself,master - 0 1426 1 connected 0-5460 5462 [93->-292f]";
        let (first, node) = member(line).expect("a node");
        assert_eq!((first, node.address.as_str()), (Some(0), "127.0.0.1:30004"));
        let info = [("role", "primary"), ("slots", "0-5460, 5462")];
        assert_eq!(
            node.info,
            info.map(|(name, value)| (name.into(), value.into()))
        );
        let replica = member("e7d1 127.0.0.1:30005@31005 slave 07c3 0 1426 1 connected");
        let (first, replica) = replica.expect("a node");
        let role = ("role".to_owned(), "replica".to_owned());
        assert_eq!((first, replica.info), (None, vec![role]));
    }

    #[test]
    fn replicas_of_a_single_server_are_named() {
        let info = "role:master\r\nconnected_slaves:1\r\nslave0:ip=10.0.0.2,port=6379,state=online\r\n\
                    redis_version:7.0.15\r\nused_memory:1000\r\n";
        let nodes = with_replicas("10.0.0.1:6379".into(), info);
        assert_eq!(nodes[0].version, "redis 7.0.15");
        assert_eq!(nodes[0].memory, Some(1000));
        let reported = ("used_memory".to_owned(), "1000".to_owned());
        assert!(nodes[0].info.contains(&reported) && nodes[1].info.len() == 1);
        assert_eq!(nodes[1].address, "10.0.0.2:6379");
    }
}
