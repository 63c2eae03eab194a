//! The Redis servers of a run: how they start, restart and fail over.

use std::{sync::Arc, time::Duration};

use asynqueue_conformance::chaos::Dice;
use asynqueue_test_servers::{Fault as Link, Proxy, RedisCluster, RedisServer, eventually};
use redis::{Value, aio::MultiplexedConnection, cmd};

/// One Redis that writes everything to disk, or a Cluster whose nodes announce their proxies.
pub(crate) enum Servers {
    Single(RedisServer),
    Cluster(RedisCluster, Vec<Arc<Proxy>>),
}

impl Servers {
    pub(crate) async fn start(is_cluster: bool) -> Self {
        if !is_cluster {
            let settings = ["--appendonly", "yes", "--appendfsync", "always"];
            return Self::Single(RedisServer::with(&settings).await);
        }
        let cluster = RedisCluster::start().await;
        let mut proxies = Vec::new();
        for node in cluster.nodes() {
            let proxy = Proxy::start(node.port()).await;
            announce(node, &proxy).await;
            proxies.push(Arc::new(proxy));
        }
        let first = cluster.nodes()[0].connection().await;
        eventually("the nodes know the proxies", async || {
            let nodes: String = cmd("CLUSTER")
                .arg("NODES")
                .query_async(&mut first.clone())
                .await
                .unwrap();
            let knows = |proxy: &Arc<Proxy>| nodes.contains(&format!(":{}@", proxy.port()));
            proxies.iter().all(knows)
        })
        .await;
        Self::Cluster(cluster, proxies)
    }

    /// All nodes that are up.
    pub(crate) fn nodes(&self) -> &[RedisServer] {
        match self {
            Self::Single(server) => std::slice::from_ref(server),
            Self::Cluster(cluster, _) => cluster.nodes(),
        }
    }

    /// Its URL, without a proxy.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Single(server) => server.url(),
            Self::Cluster(cluster, _) => cluster.url(),
        }
    }

    /// Ends the single Redis and restarts it: everything it has confirmed is on disk.
    pub(crate) async fn restart(&mut self, is_killed: bool, away: Duration) {
        let Self::Single(server) = self else { return };
        if is_killed {
            server.kill();
        } else {
            server.stop();
        }
        tokio::time::sleep(away).await;
        server.start_again().await;
    }

    /// Makes a replica take over without loss: the master hands over, or is killed after it has had no requests for
    /// long enough to replicate everything.
    pub(crate) async fn fail_over(&mut self, dice: &mut Dice) -> Result<(), String> {
        let Self::Cluster(cluster, proxies) = self else {
            return Ok(());
        };
        let (mut masters, mut replicas) = (Vec::new(), Vec::new());
        for (place, node) in cluster.nodes().iter().enumerate() {
            match master_of(node).await {
                None => masters.push(place),
                Some(port) => replicas.push((place, port)),
            }
        }
        let master = *dice.pick(&masters).ok_or("no master found")?;
        let port = proxies[master].port();
        let (replica, _) =
            *(replicas.iter().find(|(_, of)| *of == port)).ok_or("the master has no replica")?;
        if dice.below(2) == 0 {
            Wait::Agrees(&cluster.nodes()[replica]).over().await?;
            return Wait::Leads(&cluster.nodes()[replica]).over().await;
        }
        proxies[master].set(Link::Hold);
        // Requests that the server has already received take a moment.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let nodes = cluster.nodes();
        let copied = Wait::HasAll(&nodes[master], &nodes[replica]).over().await;
        if copied.is_ok() {
            cluster.nodes_mut()[master].kill();
        }
        proxies[master].set(Link::None);
        copied?;
        Wait::Leads(&cluster.nodes()[replica]).over().await?;
        cluster.nodes_mut()[master].start_again().await;
        announce(&cluster.nodes()[master], &proxies[master]).await;
        Wait::Follows(&cluster.nodes()[master]).over().await
    }
}

/// Makes a node announce its proxy, and detect a silent master quickly.
async fn announce(node: &RedisServer, proxy: &Proxy) {
    let mut connection = node.connection().await;
    let port = proxy.port().to_string();
    for (name, value) in [
        ("cluster-announce-port", port.as_str()),
        ("repl-timeout", "5"),
    ] {
        let mut set = cmd("CONFIG");
        let set = set.arg("SET").arg(name).arg(value);
        let _: () = set.query_async(&mut connection).await.expect("set");
    }
}

async fn connection(node: &RedisServer) -> Option<MultiplexedConnection> {
    let client = redis::Client::open(node.url()).ok()?;
    client.get_multiplexed_async_connection().await.ok()
}

async fn info(node: &RedisServer) -> String {
    let Some(mut connection) = connection(node).await else {
        return String::new();
    };
    let mut info = cmd("INFO");
    let info = info.arg("replication").query_async(&mut connection);
    info.await.unwrap_or_default()
}

/// The port of a replica's master.
async fn master_of(node: &RedisServer) -> Option<u16> {
    field(&info(node).await, "master_port:")
}

fn field<T: std::str::FromStr>(info: &str, name: &str) -> Option<T> {
    let line = info.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().parse().ok()
}

/// Whether a node is a replica that is connected to its master.
async fn follows(node: &RedisServer) -> bool {
    info(node).await.contains("master_link_status:up")
}

/// The condition that a failover waits for.
enum Wait<'a> {
    /// The replica agrees to take over.
    Agrees(&'a RedisServer),
    /// A node is a master.
    Leads(&'a RedisServer),
    /// A node is a replica that is connected to its master.
    Follows(&'a RedisServer),
    /// The replica (second) has everything that its idle master has.
    HasAll(&'a RedisServer, &'a RedisServer),
}

impl Wait<'_> {
    async fn holds(&self) -> bool {
        match self {
            Self::Agrees(replica) => {
                let Some(mut connection) = connection(replica).await else {
                    return false;
                };
                let mut ask = cmd("CLUSTER");
                let agreed: Result<Value, _> =
                    ask.arg("FAILOVER").query_async(&mut connection).await;
                agreed.is_ok()
            }
            Self::Leads(node) => info(node).await.contains("role:master"),
            Self::Follows(node) => follows(node).await,
            Self::HasAll(master, replica) => {
                let sent: Option<u64> = field(&info(master).await, "master_repl_offset:");
                let got: Option<u64> = field(&info(replica).await, "slave_repl_offset:");
                follows(replica).await && sent.is_some() && sent <= got
            }
        }
    }

    /// Waits for the condition, for at most ten seconds.
    async fn over(self) -> Result<(), String> {
        for _ in 0..400 {
            if self.holds().await {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        let what = match self {
            Self::Agrees(_) => "a replica agrees to take over",
            Self::Leads(_) => "a replica takes over",
            Self::Follows(_) => "the old master follows the new one",
            Self::HasAll(..) => "a replica has everything",
        };
        Err(format!("not in time: {what}"))
    }
}

/// Sends a command to each node that is up.
pub(crate) async fn send_to_all(nodes: &[RedisServer], args: &[&str]) {
    for node in nodes {
        if let Some(mut connection) = connection(node).await {
            let _: Result<Value, _> = cmd(args[0])
                .arg(&args[1..])
                .query_async(&mut connection)
                .await;
        }
    }
}

/// The keys of all masters, by name.
pub(crate) async fn keys(nodes: &[RedisServer]) -> Vec<(MultiplexedConnection, String)> {
    let mut all = Vec::new();
    for node in nodes {
        let mut connection = node.connection().await;
        if master_of(node).await.is_none() {
            let keys: Vec<String> = cmd("KEYS")
                .arg("*")
                .query_async(&mut connection)
                .await
                .expect("keys");
            all.extend(keys.into_iter().map(|key| (connection.clone(), key)));
        }
    }
    all.sort_by(|a, b| a.1.cmp(&b.1));
    all
}
