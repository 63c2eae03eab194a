//! Redis in a run: a proxy in front of each process, or of each node of a Cluster.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use asynqueue_conformance::chaos::{Dice, Fault, Scene, Stage};
use asynqueue_core::broker::SharedBroker;
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_test_servers::{Proxy, RedisServer};
use redis::cmd;
use tokio::sync::{Mutex, RwLock};

use super::{
    left::left,
    links::{self, Link},
    servers::{Servers, send_to_all},
};

/// Redis ends, by SIGKILL or in order, and restarts from its append-only file.
const RESTART: Fault = Fault::severe("restart");

/// SIGSTOP and SIGCONT of Redis.
const PAUSE: Fault = Fault::severe("pause");

/// CLIENT KILL of all clients, or of all subscribers.
const CLIENTS: Fault = Fault::mild("clients");

/// SCRIPT FLUSH.
const SCRIPTS: Fault = Fault::mild("scripts");

/// A replica takes over from its master, which hands over or is killed.
const FAILOVER: Fault = Fault::severe("failover");

/// Redis, and everything in front of it.
pub(crate) struct RedisStage {
    is_cluster: bool,
    servers: RwLock<Servers>,
    /// The URLs of all nodes.
    nodes: Vec<String>,
    links: Mutex<Vec<Arc<Link>>>,
}

impl RedisStage {
    pub(crate) async fn start(is_cluster: bool) -> Self {
        let servers = Servers::start(is_cluster).await;
        let nodes = servers.nodes().iter().map(RedisServer::url).collect();
        let links = match &servers {
            Servers::Single(_) => Vec::new(),
            // All processes reach a node by the same proxy.
            Servers::Cluster(_, proxies) => {
                let link = |proxy| Arc::new(Link::new("all", Arc::clone(proxy)));
                proxies.iter().map(link).collect()
            }
        };
        Self {
            is_cluster,
            servers: RwLock::new(servers),
            nodes,
            links: Mutex::new(links),
        }
    }

    async fn break_link(&self, fault: Fault, scene: &Scene, dice: &mut Dice) {
        let link = dice.pick(&self.links.lock().await).cloned();
        let link = link.expect("links");
        // A target that already has a fault is skipped.
        if let Ok(_broken) = link.is_broken.try_lock() {
            let broken = links::break_link(fault, &link.proxy, dice);
            scene.during(fault, &link.whom, broken).await;
        }
    }

    async fn break_servers(
        &self,
        fault: Fault,
        servers: &mut Servers,
        dice: &mut Dice,
    ) -> Result<(), String> {
        match fault {
            RESTART => {
                servers
                    .restart(dice.below(2) == 0, dice.millis(0, 800))
                    .await
            }
            PAUSE => {
                if let Servers::Single(server) = servers {
                    server.pause();
                    tokio::time::sleep(dice.millis(300, 2_500)).await;
                    server.resume();
                }
            }
            CLIENTS => {
                let kind = *dice.pick(&["normal", "pubsub"]).expect("kinds");
                send_to_all(servers.nodes(), &["CLIENT", "KILL", "TYPE", kind]).await;
            }
            SCRIPTS => send_to_all(servers.nodes(), &["SCRIPT", "FLUSH"]).await,
            _ => return servers.fail_over(dice).await,
        }
        Ok(())
    }
}

#[async_trait]
impl Stage for RedisStage {
    fn title(&self) -> String {
        let title = match self.is_cluster {
            true => "a Cluster of three masters with a replica each",
            false => "one Redis with an append-only file",
        };
        title.to_owned()
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = links::FAULTS.to_vec();
        faults.extend([CLIENTS, SCRIPTS]);
        match self.is_cluster {
            true => faults.push(FAILOVER),
            // A Cluster declares a paused node dead, and an unplanned failover loses what was not replicated.
            false => faults.extend([RESTART, PAUSE]),
        }
        faults
    }

    async fn url(&self, place: &str) -> String {
        match &*self.servers.read().await {
            Servers::Single(server) => {
                let proxy = Proxy::start(server.port()).await;
                let url = proxy.url();
                let link = Link::new(place, Arc::new(proxy));
                self.links.lock().await.push(Arc::new(link));
                url
            }
            Servers::Cluster(_, proxies) => {
                let node = |proxy: &Arc<Proxy>| format!("127.0.0.1:{}", proxy.port());
                let nodes: Vec<_> = proxies.iter().map(node).collect();
                format!("redis+cluster://{}", nodes.join(","))
            }
        }
    }

    async fn broker(&self) -> SharedBroker {
        let url = self.servers.read().await.url();
        let options = RedisOptions::new(&url).expect("a URL");
        let options = options.retry_for(Duration::from_secs(20));
        RedisBroker::connect(options)
            .await
            .expect("a connection")
            .into()
    }

    async fn inject(&self, fault: Fault, scene: &Scene, dice: &mut Dice) {
        if links::FAULTS.contains(&fault) {
            self.break_link(fault, scene, dice).await;
        } else if let Ok(mut servers) = self.servers.try_write() {
            let broken = self.break_servers(fault, &mut servers, dice);
            if let Err(problem) = scene.during(fault, "all", broken).await {
                scene.problem(&problem).await;
            }
        }
    }

    async fn respond(&self) {
        for url in &self.nodes {
            ping(url).await;
        }
    }

    async fn left(&self) -> Vec<String> {
        left(self.servers.read().await.nodes()).await
    }

    fn figures(&self) -> Vec<(String, String)> {
        let links = self.links.try_lock().expect("no link is added");
        let count = |of: fn(&Proxy) -> u64| links.iter().map(|link| of(&link.proxy)).sum::<u64>();
        let what = "responses cut in the middle, requests delivered late";
        vec![(
            what.to_owned(),
            format!("{}, {}", count(Proxy::cuts), count(Proxy::late)),
        )]
    }
}

/// Each call opens a connection, so it takes longer than that of a client.
async fn ping(url: &str) -> Option<()> {
    let client = redis::Client::open(url).ok()?;
    let mut connection = client.get_multiplexed_async_connection().await.ok()?;
    cmd("PING").query_async::<()>(&mut connection).await.ok()
}
