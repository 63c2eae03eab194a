//! A single Redis.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use crate::process::{Process, free_port};

/// The server program: the path in `ASYNQUEUE_REDIS_SERVER`, so that the same tests run on any version of Redis and
/// Valkey, otherwise the `redis-server` on the path.
pub(crate) fn program() -> String {
    std::env::var("ASYNQUEUE_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}

/// A separate, empty Redis.
#[derive(Debug)]
pub struct RedisServer {
    dir: TempDir,
    port: u16,
    args: Vec<String>,
    process: Process,
}

impl RedisServer {
    /// Starts a server without persistence.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts a server with more settings, such as `["--maxmemory", "10mb"]`.
    pub async fn with(settings: &[&str]) -> Self {
        loop {
            let port = free_port();
            let mut args = vec!["--port".to_owned(), port.to_string()];
            args.extend(
                ["--bind", "127.0.0.1", "--save", "", "--databases", "4"].map(String::from),
            );
            args.extend(settings.iter().map(|setting| (*setting).to_owned()));
            if let Some(server) = Self::try_start(port, args).await {
                return server;
            }
        }
    }

    /// Starts a replica, and waits until it acknowledges its master's data.
    pub async fn replica_of(master: &Self) -> Self {
        let mut hurry = redis::cmd("CONFIG");
        hurry.arg("SET").arg("repl-diskless-sync-delay").arg(0);
        let _: () = hurry
            .query_async(&mut master.connection().await)
            .await
            .unwrap();
        let port = master.port.to_string();
        // Host and port are two arguments, because Redis 6.2 treats one as a single word.
        let settings = ["--replicaof", "127.0.0.1", &port];
        let pings = ["--repl-ping-replica-period", "1"];
        let replica = Self::with(&[settings.as_slice(), &pings].concat()).await;
        let connection = master.connection().await;
        crate::eventually("the replica is in sync", async || {
            // `WAIT` covers the changes of this connection.
            let mut change = redis::pipe();
            change.cmd("SET").arg("marker").arg(1).ignore();
            change.cmd("DEL").arg("marker").ignore();
            change.cmd("WAIT").arg(1).arg(100);
            let (replicas,): (u32,) = change.query_async(&mut connection.clone()).await.unwrap();
            replicas == 1
        })
        .await;
        replica
    }

    /// Starts a server, unless another process has taken its port.
    async fn try_start(port: u16, args: Vec<String>) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let process = Process::start(&program(), dir.path(), &args);
        let mut server = Self {
            dir,
            port,
            args,
            process,
        };
        server.answers().await.then_some(server)
    }

    /// Waits until it responds. Returns false if it has ended.
    async fn answers(&mut self) -> bool {
        let started = Instant::now();
        loop {
            let client = redis::Client::open(self.url()).unwrap();
            if let Ok(mut connection) = client.get_multiplexed_async_connection().await {
                let pong = redis::cmd("PING")
                    .query_async::<String>(&mut connection)
                    .await;
                // A server that requires a password responds too.
                if pong.is_ok() || pong.is_err_and(|error| error.to_string().contains("NOAUTH")) {
                    return true;
                }
            }
            if self.process.has_ended() {
                let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                assert!(
                    log.contains("Address already in use"),
                    "redis-server did not start: {log}"
                );
                return false;
            }
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "redis-server did not respond in time"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A plain connection to it.
    pub async fn connection(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    /// Stops it in order.
    pub fn stop(&mut self) {
        self.process.signal("TERM");
        self.process.wait();
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process.signal("KILL");
        self.process.wait();
    }

    /// Pauses it with SIGSTOP.
    pub fn pause(&self) {
        self.process.signal("STOP");
    }

    /// Resumes it.
    pub fn resume(&self) {
        self.process.signal("CONT");
    }

    /// Starts it again after a stop or a kill, with its data on disk.
    pub async fn start_again(&mut self) {
        self.process = Process::start(&program(), self.dir.path(), &self.args);
        assert!(self.answers().await, "the port is still free");
    }
}
