//! The faults of the server and of its connections.

use std::time::Duration;

use asynqueue_conformance::chaos::{Dice, Fault};
use asynqueue_test_servers::Postgres;
use tokio::time::{Instant, sleep};

/// PostgreSQL ends, by SIGKILL or in order, and restarts from its write-ahead log.
const RESTART: Fault = Fault::severe("restart");

/// SIGSTOP and SIGCONT of all its processes.
const PAUSE: Fault = Fault::severe("pause");

/// An administrator terminates all connections.
const TERMINATE: Fault = Fault::mild("terminate");

/// All connections are terminated again and again.
const STORM: Fault = Fault::severe("storm");

pub(crate) const FAULTS: [Fault; 4] = [RESTART, PAUSE, TERMINATE, STORM];

/// How often a storm terminates all connections.
const STORM_EVERY: Duration = Duration::from_millis(100);

/// Breaks the server for a while. Returns how many connections were terminated.
pub(crate) async fn break_server(fault: Fault, server: &mut Postgres, dice: &mut Dice) -> usize {
    match fault {
        RESTART => {
            if dice.below(2) == 0 {
                server.kill();
            } else {
                server.stop();
            }
            sleep(dice.millis(0, 800)).await;
            server.restart().await;
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

/// Terminates all connections but its own.
async fn terminate(server: &Postgres) -> usize {
    let others = "select pg_terminate_backend(pid) from pg_stat_activity
         where backend_type = 'client backend' and pid <> pg_backend_pid()";
    let terminated = server.client().await.query(others, &[]).await;
    terminated.expect("a superuser may").len()
}
