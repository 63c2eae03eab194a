//! A master with a replica, and three Sentinels that monitor it.

use std::path::Path;

use redis::cmd;
use tempfile::TempDir;

use crate::{
    RedisServer, eventually,
    process::{Process, free_port},
    server::program,
};

/// A master, its replica and their Sentinels.
#[derive(Debug)]
pub struct RedisSentinel {
    servers: Vec<RedisServer>,
    sentinels: Vec<(u16, Process, TempDir)>,
}

const MASTER: &str = "asynqueue";

impl RedisSentinel {
    /// Starts them, and waits until they know each other.
    pub async fn start() -> Self {
        let master = RedisServer::with(&["--repl-diskless-sync-delay", "0"]).await;
        let replica = RedisServer::replica_of(&master).await;
        let port = master.port();
        let sentinels = (0..3).map(|_| sentinel(port)).collect();
        let this = Self {
            servers: vec![master, replica],
            sentinels,
        };
        eventually("the Sentinels know each other", || async {
            for (port, ..) in &this.sentinels {
                if !knows_all(*port).await {
                    return false;
                }
            }
            true
        })
        .await;
        this
    }

    /// The URL of the Sentinels.
    pub fn url(&self) -> String {
        let places: Vec<_> = self
            .sentinels
            .iter()
            .map(|(port, ..)| format!("127.0.0.1:{port}"))
            .collect();
        format!("redis+sentinel://{}?master={MASTER}", places.join(","))
    }

    /// The master and its replica.
    pub fn servers(&self) -> &[RedisServer] {
        &self.servers
    }

    /// Kills the master, and waits until the Sentinels return the replica as the new one.
    pub async fn fail_over(&mut self) {
        self.servers[0].kill();
        let replica = self.servers[1].port();
        eventually("the replica takes over", || async {
            for (port, ..) in &self.sentinels {
                if master_by(*port).await != Some(replica) {
                    return false;
                }
            }
            true
        })
        .await;
    }
}

fn sentinel(master: u16) -> (u16, Process, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let file = dir.path().join("sentinel.conf");
    let config = format!(
        "port {port}\nbind 127.0.0.1\ndir {dir}\nsentinel monitor {MASTER} 127.0.0.1 {master} 2\n\
         sentinel down-after-milliseconds {MASTER} 700\nsentinel failover-timeout {MASTER} 3000\n",
        dir = dir.path().display(),
    );
    std::fs::write(&file, config).unwrap();
    let args = [path(&file), "--sentinel".to_owned()];
    (port, Process::start(&program(), dir.path(), &args), dir)
}

fn path(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

async fn ask(port: u16, args: &[&str]) -> Option<Vec<String>> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.ok()?;
    cmd("SENTINEL")
        .arg(args)
        .query_async(&mut connection)
        .await
        .ok()
}

async fn master_by(port: u16) -> Option<u16> {
    ask(port, &["get-master-addr-by-name", MASTER])
        .await?
        .get(1)?
        .parse()
        .ok()
}

async fn knows_all(port: u16) -> bool {
    let Some(fields) = ask(port, &["master", MASTER]).await else {
        return false;
    };
    let of = |name: &str| {
        let place = fields.iter().position(|field| field == name)?;
        fields.get(place + 1)?.parse::<u32>().ok()
    };
    of("num-slaves") == Some(1) && of("num-other-sentinels") == Some(2)
}
