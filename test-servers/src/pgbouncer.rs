//! A PgBouncer in front of a PostgreSQL.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{
    Postgres,
    process::{Process, free_port},
    user::User,
};

/// A separate PgBouncer in transaction mode: each transaction may run on another connection of the server.
#[derive(Debug)]
pub struct PgBouncer {
    dir: TempDir,
    user: User,
    port: u16,
    process: Process,
}

impl PgBouncer {
    /// Starts a PgBouncer in front of a server, with all of the server's databases.
    pub async fn start(server: &Postgres) -> Self {
        Self::with(server, &[]).await
    }

    /// Starts a PgBouncer with more settings, such as `["server_login_retry = 1"]`.
    pub async fn with(server: &Postgres, settings: &[&str]) -> Self {
        loop {
            if let Some(started) = Self::try_start(server.port(), settings).await {
                return started;
            }
        }
    }

    /// Starts it, unless another process has taken its port.
    async fn try_start(to: u16, settings: &[&str]) -> Option<Self> {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let settings = settings.join("\n");
        let config = format!(
            "[databases]\n* = host=127.0.0.1 port={to} user=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = transaction\nmax_client_conn = 500\n{settings}\n"
        );
        std::fs::write(dir.path().join("pgbouncer.ini"), config).unwrap();
        let user = User::unprivileged();
        user.own(dir.path());
        let process = run(&dir, user);
        let mut this = Self {
            dir,
            user,
            port,
            process,
        };
        this.answers().await.then_some(this)
    }

    /// Waits until it accepts connections. Returns false if it has ended.
    async fn answers(&mut self) -> bool {
        let started = Instant::now();
        // Its own database, so that it can start before the server.
        let admin = format!("postgres://postgres@127.0.0.1:{}/pgbouncer", self.port);
        while tokio_postgres::connect(&admin, tokio_postgres::NoTls)
            .await
            .is_err()
        {
            let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            if self.process.has_ended() {
                assert!(
                    log().contains("Address already in use"),
                    "PgBouncer did not start: {}",
                    log()
                );
                return false;
            }
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "PgBouncer did not start in time: {}",
                log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        true
    }

    /// The URL of the server's database `postgres` through it.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process.signal("KILL");
        self.process.wait();
    }

    /// Starts it again after a kill, on the same port.
    pub async fn start_again(&mut self) {
        self.process = run(&self.dir, self.user);
        assert!(self.answers().await, "the port is still free");
    }
}

fn run(dir: &TempDir, user: User) -> Process {
    let args = ["pgbouncer.ini".to_owned()];
    // Debian's place for it is not on every user's path.
    let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"];
    let program = program
        .into_iter()
        .find(|path| std::path::Path::new(path).exists());
    Process::start_as(
        user,
        "KILL",
        program.unwrap_or("pgbouncer"),
        dir.path(),
        &args,
    )
}
