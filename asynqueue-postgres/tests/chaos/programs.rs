//! What other programs do in the database of the store.

use std::time::Duration;

use asynqueue_conformance::chaos::{Dice, Fault};
use tokio::time::sleep;
use tokio_postgres::{Client, Error, NoTls};

use super::tables::texts;

/// Another program locks the tables, as a migration does.
const LOCK: Fault = Fault::severe("lock");

/// Another program reads in one long transaction, so that no dead row can be removed.
const READER: Fault = Fault::mild("reader");

/// Another program removes dead rows, or rewrites the tables.
const VACUUM: Fault = Fault::mild("vacuum");

pub(crate) const FAULTS: [Fault; 3] = [LOCK, READER, VACUUM];

/// How long these programs wait for a lock. The store waits behind them.
const PATIENCE: &str = "set lock_timeout = '200ms'";

/// A connection to a server that may have a fault.
pub(crate) async fn open(url: &str) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Does what this fault is. Fails if the server has a fault too, or if the program has to wait for a lock.
pub(crate) async fn run(fault: Fault, url: &str, dice: &mut Dice) -> Result<(), Error> {
    let client = open(url).await?;
    client.batch_execute(PATIENCE).await?;
    let tables = "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname = 'asynqueue'";
    let tables = texts(&client, tables).await?;
    match fault {
        LOCK => {
            let all = tables.join(", ");
            let lock = format!("begin; lock table {all} in access exclusive mode");
            within(&client, &lock, dice.millis(300, 4_500)).await
        }
        READER => {
            let read = "begin isolation level repeatable read; select * from asynqueue.meta";
            within(&client, read, dice.millis(500, 5_000)).await
        }
        _ => {
            let kinds = ["vacuum (full, analyze)", "vacuum (analyze)"];
            let kind = dice.pick(&kinds).expect("kinds");
            for table in tables {
                client.batch_execute(&format!("{kind} {table}")).await?;
            }
            Ok(())
        }
    }
}

/// Has a transaction open for this long.
async fn within(client: &Client, begin: &str, time: Duration) -> Result<(), Error> {
    client.batch_execute(begin).await?;
    sleep(time).await;
    client.batch_execute("commit").await
}
