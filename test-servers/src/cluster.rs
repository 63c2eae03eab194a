//! A Redis Cluster of three masters, each with a replica.

use redis::{aio::MultiplexedConnection, cmd};

use crate::{RedisServer, eventually};

/// Six servers.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

const MASTERS: usize = 3;
const SLOTS: u16 = 16_384;

impl RedisCluster {
    /// Starts a Cluster, and waits until it is complete.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts a Cluster with more settings, such as `["--cluster-require-full-coverage", "no"]`.
    pub async fn with(more: &[&str]) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..2 * MASTERS {
            let settings = [
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "1500",
                "--repl-diskless-sync-delay",
                "0",
                "--repl-ping-replica-period",
                "1",
                // A replica may take over even if it has had no contact for long.
                "--cluster-replica-validity-factor",
                "0",
            ];
            nodes.push(RedisServer::with(&[&settings, more].concat()).await);
        }
        let cluster = Self { nodes };
        cluster.assemble().await;
        cluster
    }

    async fn assemble(&self) {
        let mut first = self.nodes[0].connection().await;
        for (index, node) in self.nodes.iter().enumerate() {
            let mut connection = node.connection().await;
            let epoch = index + 1;
            let _: () = cmd("CLUSTER")
                .arg("SET-CONFIG-EPOCH")
                .arg(epoch)
                .query_async(&mut connection)
                .await
                .unwrap();
            let _: () = cmd("CLUSTER")
                .arg("MEET")
                .arg("127.0.0.1")
                .arg(node.port())
                .query_async(&mut first)
                .await
                .unwrap();
        }
        for (index, node) in self.nodes[..MASTERS].iter().enumerate() {
            let part = SLOTS.div_ceil(MASTERS as u16);
            let from = index as u16 * part;
            let slots = from..(from + part).min(SLOTS);
            let mut command = cmd("CLUSTER");
            command.arg("ADDSLOTS").arg(slots.collect::<Vec<_>>());
            let _: () = command
                .query_async(&mut node.connection().await)
                .await
                .unwrap();
        }
        eventually("the nodes know each other", || async {
            for node in &self.nodes {
                if self.known(node).await < 2 * MASTERS {
                    return false;
                }
            }
            true
        })
        .await;
        for (index, node) in self.nodes[MASTERS..].iter().enumerate() {
            let master = self.id_of(&self.nodes[index]).await;
            let mut connection = node.connection().await;
            let _: () = cmd("CLUSTER")
                .arg("REPLICATE")
                .arg(master)
                .query_async(&mut connection)
                .await
                .unwrap();
        }
        eventually("the cluster is complete", || self.is_complete(&self.nodes)).await;
        eventually("the replicas are in sync", || async {
            for node in &self.nodes[MASTERS..] {
                let info: String = cmd("INFO")
                    .arg("replication")
                    .query_async(&mut node.connection().await)
                    .await
                    .unwrap();
                if !info.contains("master_link_status:up") {
                    return false;
                }
            }
            true
        })
        .await;
    }

    async fn known(&self, node: &RedisServer) -> usize {
        let nodes: String = cmd("CLUSTER")
            .arg("NODES")
            .query_async(&mut node.connection().await)
            .await
            .unwrap();
        nodes
            .lines()
            .filter(|line| !line.contains("handshake"))
            .count()
    }

    async fn is_complete(&self, nodes: &[RedisServer]) -> bool {
        for node in nodes {
            let Ok(client) = redis::Client::open(node.url()) else {
                return false;
            };
            let Ok(mut connection) = client.get_multiplexed_async_connection().await else {
                continue;
            };
            let info: String = cmd("CLUSTER")
                .arg("INFO")
                .query_async(&mut connection)
                .await
                .unwrap();
            if !info.contains("cluster_state:ok") {
                return false;
            }
        }
        true
    }

    async fn id_of(&self, node: &RedisServer) -> String {
        cmd("CLUSTER")
            .arg("MYID")
            .query_async(&mut node.connection().await)
            .await
            .unwrap()
    }

    /// The URL with all nodes.
    pub fn url(&self) -> String {
        let nodes: Vec<_> = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port()))
            .collect();
        format!("redis+cluster://{}", nodes.join(","))
    }

    /// All nodes.
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// All nodes, to stop or start them.
    pub fn nodes_mut(&mut self) -> &mut [RedisServer] {
        &mut self.nodes
    }

    /// The slot of a key.
    pub async fn slot_of(&self, key: &str) -> u16 {
        let mut connection = self.any().await;
        cmd("CLUSTER")
            .arg("KEYSLOT")
            .arg(key)
            .query_async(&mut connection)
            .await
            .unwrap()
    }

    /// A connection to a node that is up.
    async fn any(&self) -> MultiplexedConnection {
        for node in &self.nodes {
            let client = redis::Client::open(node.url()).unwrap();
            if let Ok(connection) = client.get_multiplexed_async_connection().await {
                return connection;
            }
        }
        panic!("a node is up");
    }

    /// The port of the master that serves a slot.
    pub async fn master_of(&self, slot: u16) -> u16 {
        let nodes: String = cmd("CLUSTER")
            .arg("NODES")
            .query_async(&mut self.any().await)
            .await
            .unwrap();
        for line in nodes
            .lines()
            .filter(|line| line.contains("master") && !line.contains("fail"))
        {
            let fields: Vec<_> = line.split(' ').collect();
            let has_it = fields.iter().skip(8).any(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if (first..=last).contains(&slot))
            });
            if has_it {
                let address = fields[1].split('@').next().unwrap();
                return address.rsplit(':').next().unwrap().parse().unwrap();
            }
        }
        0
    }

    /// Waits until the replicas of the key's master have everything that it has.
    pub async fn wait_for_replicas_of(&self, key: &str) {
        let port = self.master_of(self.slot_of(key).await).await;
        let node = self
            .nodes
            .iter()
            .find(|node| node.port() == port)
            .expect("a master");
        let mut connection = node.connection().await;
        // `WAIT` covers the changes of this connection, and so all earlier ones.
        let mut change = cmd("HSET");
        change.arg(format!("{key}:marker")).arg("a").arg("b");
        let _: i64 = change.query_async(&mut connection).await.unwrap();
        let mut wait = cmd("WAIT");
        let replicas: i64 = wait
            .arg(1)
            .arg(10_000)
            .query_async(&mut connection)
            .await
            .unwrap();
        assert_eq!(replicas, 1);
    }

    /// Pauses the master of a key and all its replicas, so that none takes over, while `meanwhile` runs.
    pub async fn pause_shard_of(&self, key: &str, meanwhile: impl Future<Output = ()>) {
        let port = self.master_of(self.slot_of(key).await).await;
        let master = self.node_at(port);
        let id = self.id_of(master).await;
        let mut ask = cmd("CLUSTER");
        ask.arg("REPLICAS").arg(id);
        let mut connection = master.connection().await;
        let replicas: Vec<String> = ask.query_async(&mut connection).await.unwrap();
        let is_of_shard = |node: &&RedisServer| {
            let at = format!(":{}@", node.port());
            node.port() == port || replicas.iter().any(|line| line.contains(&at))
        };
        let shard: Vec<_> = self.nodes.iter().filter(is_of_shard).collect();
        shard.iter().for_each(|node| node.pause());
        meanwhile.await;
        shard.iter().for_each(|node| node.resume());
    }

    fn node_at(&self, port: u16) -> &RedisServer {
        let mut nodes = self.nodes.iter();
        nodes.find(|node| node.port() == port).expect("a node")
    }

    /// Kills the master of a key. A replica should take over.
    pub async fn kill_master_of(&mut self, key: &str) {
        let port = self.master_of(self.slot_of(key).await).await;
        self.nodes
            .iter_mut()
            .find(|node| node.port() == port)
            .expect("a master")
            .kill();
        let slot = self.slot_of(key).await;
        eventually("a replica takes over", || async {
            let now = self.master_of(slot).await;
            now != 0 && now != port && self.is_complete(&self.nodes).await
        })
        .await;
    }

    /// Moves a key's slot to another master, one key at a time, and calls `between` after each step.
    pub async fn migrate_slot_of(&self, key: &str, mut between: impl AsyncFnMut()) {
        let slot = self.slot_of(key).await;
        let from = self.master_of(slot).await;
        let mut to = self
            .nodes
            .iter()
            .map(RedisServer::port)
            .filter(|port| *port != from);
        let mut masters = Vec::new();
        for node in &self.nodes {
            let role: Vec<redis::Value> = cmd("ROLE")
                .query_async(&mut node.connection().await)
                .await
                .unwrap();
            if matches!(&role[0], redis::Value::BulkString(role) if role == b"master") {
                masters.push(node.port());
            }
        }
        let to = to
            .find(|port| masters.contains(port))
            .expect("another master");
        let node = |port| self.nodes.iter().find(|node| node.port() == port).unwrap();
        let (source, target) = (node(from), node(to));
        let (source_id, target_id) = (self.id_of(source).await, self.id_of(target).await);
        let (mut source, mut target) = (source.connection().await, target.connection().await);
        let set = |state: &str, id: &str| {
            let mut command = cmd("CLUSTER");
            command.arg("SETSLOT").arg(slot).arg(state).arg(id);
            command
        };
        let _: () = set("IMPORTING", &source_id)
            .query_async(&mut target)
            .await
            .unwrap();
        let _: () = set("MIGRATING", &target_id)
            .query_async(&mut source)
            .await
            .unwrap();
        between().await;
        loop {
            let keys: Vec<String> = cmd("CLUSTER")
                .arg("GETKEYSINSLOT")
                .arg(slot)
                .arg(1)
                .query_async(&mut source)
                .await
                .unwrap();
            let Some(key) = keys.first() else { break };
            let mut migrate = cmd("MIGRATE");
            migrate
                .arg("127.0.0.1")
                .arg(to)
                .arg(key)
                .arg(0)
                .arg(5_000)
                .arg("REPLACE");
            let _: String = migrate.query_async(&mut source).await.unwrap();
            between().await;
        }
        let _: () = set("NODE", &target_id)
            .query_async(&mut target)
            .await
            .unwrap();
        let _: () = set("NODE", &target_id)
            .query_async(&mut source)
            .await
            .unwrap();
        eventually("all nodes know the move", || async {
            self.master_of(slot).await == to && self.is_complete(&self.nodes).await
        })
        .await;
    }
}
