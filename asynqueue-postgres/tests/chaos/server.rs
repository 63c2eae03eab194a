//! The faults of the server and of its connections.

use std::time::Duration;

use asynqueue_conformance::chaos::{Dice, Fault};
use asynqueue_test_servers::{PgBouncer, Postgres, eventually};
use tokio::time::{Instant, sleep};

use super::programs::open;

/// PostgreSQL ends, by SIGKILL or in order, and restarts from its write-ahead log.
const RESTART: Fault = Fault::severe("restart");

/// SIGSTOP and SIGCONT of all its processes.
const PAUSE: Fault = Fault::severe("pause");

/// An administrator terminates all connections.
const TERMINATE: Fault = Fault::mild("terminate");

/// All connections are terminated again and again.
const STORM: Fault = Fault::severe("storm");

/// The pooler is killed, and starts again.
pub(crate) const POOLER: Fault = Fault::severe("pooler");

pub(crate) const FAULTS: [Fault; 4] = [RESTART, PAUSE, TERMINATE, STORM];

/// How often a storm terminates all connections.
const STORM_EVERY: Duration = Duration::from_millis(100);

/// The server, and the pooler in front of it.
pub(crate) struct Server {
    pub(crate) postgres: Postgres,
    pub(crate) pooler: Option<PgBouncer>,
}

impl Server {
    pub(crate) async fn start(is_pooled: bool) -> Self {
        let postgres = Postgres::start().await;
        let pooler = match is_pooled {
            // By default, clients get errors for 15 s after a restart of the server.
            true => Some(PgBouncer::with(&postgres, &["server_login_retry = 1"]).await),
            false => None,
        };
        Self { postgres, pooler }
    }

    /// The port that the calls of a process use.
    pub(crate) fn port(&self) -> u16 {
        let server = self.postgres.port();
        self.pooler.as_ref().map_or(server, PgBouncer::port)
    }

    /// Waits until the pooler has noticed that the server is back.
    async fn is_back(&self) {
        if let Some(pooler) = &self.pooler {
            let url = pooler.url();
            eventually("the pooler passes statements on", async || {
                match open(&url).await {
                    Ok(client) => client.batch_execute("select 1").await.is_ok(),
                    Err(_) => false,
                }
            })
            .await;
        }
    }

    /// Breaks it for a while. Returns how many connections were terminated.
    pub(crate) async fn suffer(&mut self, fault: Fault, dice: &mut Dice) -> usize {
        let server = &mut self.postgres;
        match fault {
            RESTART => {
                if dice.below(2) == 0 {
                    server.kill();
                } else {
                    server.stop();
                }
                sleep(dice.millis(0, 800)).await;
                server.restart().await;
                self.is_back().await;
                0
            }
            POOLER => {
                if let Some(pooler) = &mut self.pooler {
                    pooler.kill();
                    sleep(dice.millis(0, 800)).await;
                    pooler.start_again().await;
                }
                0
            }
            PAUSE => {
                server.pause();
                sleep(dice.millis(300, 2_500)).await;
                server.resume();
                0
            }
            TERMINATE => terminate(server).await,
            _ => {
                let (begin, time) = (Instant::now(), dice.millis(300, 4_500));
                let mut terminated = 0;
                while begin.elapsed() < time {
                    terminated += terminate(server).await;
                    sleep(STORM_EVERY).await;
                }
                terminated
            }
        }
    }
}

/// Terminates all connections but its own.
async fn terminate(server: &Postgres) -> usize {
    let others = "select pg_terminate_backend(pid) from pg_stat_activity
         where backend_type = 'client backend' and pid <> pg_backend_pid()";
    let terminated = server.client().await.query(others, &[]).await;
    terminated.expect("a superuser may").len()
}
