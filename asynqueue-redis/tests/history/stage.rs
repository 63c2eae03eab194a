//! A Redis, and the proxies in front of it.

use std::{sync::Arc, time::Duration};

use asynqueue_conformance::history::Faults;
use asynqueue_core::task::TaskId;
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_test_servers::{Fault, Proxy, RedisCluster, RedisServer, eventually};
use redis::cmd;

use super::faults;

/// The number of client processes.
const PROCESSES: usize = 3;

/// How long a call is retried.
pub(crate) const RETRY_FOR: Duration = Duration::from_millis(250);

/// How long a response may take.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_millis(80);

/// The Redis that stores the tasks.
pub(crate) enum Store {
    Single(RedisServer),
    Cluster(RedisCluster),
}

impl Store {
    pub(crate) async fn start(is_cluster: bool) -> Self {
        if is_cluster {
            Self::Cluster(RedisCluster::start().await)
        } else {
            Self::Single(RedisServer::start().await)
        }
    }
}

/// The proxies of a sequence of histories.
pub(crate) struct Stage {
    pub(crate) proxies: Vec<Proxy>,
    /// The address that each process connects to.
    urls: Vec<String>,
}

impl Stage {
    pub(crate) async fn start(store: &Store) -> Self {
        match store {
            Store::Single(server) => Self::before(server.port()).await,
            Store::Cluster(cluster) => Self::before_all(cluster).await,
        }
    }

    /// A proxy for each process, in front of this port.
    pub(crate) async fn before(port: u16) -> Self {
        let mut proxies = Vec::new();
        for _ in 0..PROCESSES {
            proxies.push(Proxy::start(port).await);
        }
        let urls = proxies.iter().map(Proxy::url).collect();
        Self { proxies, urls }
    }

    /// A proxy for each node, which the node announces as its own address. All processes use them.
    async fn before_all(cluster: &RedisCluster) -> Self {
        let mut proxies = Vec::new();
        for node in cluster.nodes() {
            let proxy = Proxy::start(node.port()).await;
            let mut connection = node.connection().await;
            let mut announce = cmd("CONFIG");
            announce
                .arg("SET")
                .arg("cluster-announce-port")
                .arg(proxy.port());
            let _: () = announce
                .query_async(&mut connection)
                .await
                .expect("a setting");
            proxies.push(proxy);
        }
        let first = cluster.nodes()[0].connection().await;
        eventually("the nodes know the proxies", async || {
            let mut nodes = cmd("CLUSTER");
            nodes.arg("NODES");
            let nodes: String = nodes.query_async(&mut first.clone()).await.expect("nodes");
            let knows = |proxy: &Proxy| nodes.contains(&format!(":{}@", proxy.port()));
            proxies.iter().all(knows)
        })
        .await;
        let node = |proxy: &Proxy| format!("127.0.0.1:{}", proxy.port());
        let nodes: Vec<_> = proxies.iter().map(node).collect();
        let url = format!("redis+cluster://{}", nodes.join(","));
        Self {
            proxies,
            urls: vec![url; PROCESSES],
        }
    }

    /// Handles to an empty store, one for each process.
    pub(crate) async fn handles(&self) -> Vec<Arc<RedisBroker>> {
        let prefix = TaskId::generate();
        let mut handles = Vec::new();
        for url in &self.urls {
            let options = RedisOptions::new(url).expect("a URL");
            let options = options
                .prefix(prefix.as_str())
                .expect("a prefix")
                .response_timeout(RESPONSE_TIMEOUT)
                .retry_for(RETRY_FOR);
            handles.push(Arc::new(connect(options).await));
        }
        handles
    }
}

/// How often to try to connect.
const CONNECTS: usize = 50;

/// Connects, again if a busy machine exceeds the response time-out.
async fn connect(options: RedisOptions) -> RedisBroker {
    for _ in 1..CONNECTS {
        if let Ok(broker) = RedisBroker::connect(options.clone()).await {
            return broker;
        }
    }
    (RedisBroker::connect(options).await).expect("a connection")
}

#[async_trait::async_trait]
impl Faults for Stage {
    async fn strike(&self, seed: u64) {
        faults::strike(&self.proxies, seed).await;
    }

    fn heal(&self) {
        for proxy in &self.proxies {
            proxy.set(Fault::None);
        }
    }
}
