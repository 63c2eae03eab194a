//! A Cluster that changes under load.

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{Control, Inspect},
    task::TaskState,
};
use asynqueue_test_servers::{RedisCluster, eventually};

use super::load::{Producers, QUEUE, Record, patient, serve};

const MOMENT: Duration = Duration::from_millis(2);

fn key() -> String {
    format!("aq:{{{QUEUE}}}:tasks")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_takes_over_continues_from_its_master() {
    let mut cluster = RedisCluster::start().await;
    let (broker, record) = (patient(&cluster.url()).await, Arc::new(Record::default()));
    let worker = serve(&broker, &record, MOMENT).await;
    let producers = Producers::start(&broker, MOMENT);
    eventually("work continues", || async { record.done() > 200 }).await;
    // A Cluster may lose its master's last changes, so nothing happens in the last moment: accepted tasks wait.
    broker
        .set_paused(&[QUEUE.into()], true)
        .await
        .expect("paused");
    let sent = producers.stop().await;
    eventually("running tasks are done", || async {
        let stats = broker
            .stats(&[QUEUE.into()])
            .await
            .expect("stats")
            .remove(0);
        stats.count(TaskState::Active) == 0
    })
    .await;
    cluster.wait_for_replicas_of(&key()).await;
    cluster.kill_master_of(&key()).await;
    let more = Producers::start_at(sent, &broker, MOMENT);
    broker
        .set_paused(&[QUEUE.into()], false)
        .await
        .expect("resumed");
    eventually("work continues", || async { record.done() > sent + 100 }).await;
    let sent = sent + more.stop().await;
    eventually("all is done", || async { record.done() == sent }).await;
    worker.shutdown().await.expect("ended in order");
    record.assert_each_ran_once(sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn moving_a_slot_in_use_loses_and_duplicates_nothing() {
    let cluster = RedisCluster::start().await;
    let (broker, record) = (patient(&cluster.url()).await, Arc::new(Record::default()));
    let worker = serve(&broker, &record, MOMENT).await;
    let producers = Producers::start(&broker, MOMENT);
    for _ in 0..3 {
        let before = record.done();
        eventually("work continues", || async { record.done() > before + 100 }).await;
        cluster
            .migrate_slot_of(&key(), async || tokio::time::sleep(MOMENT * 10).await)
            .await;
    }
    let sent = producers.stop().await;
    eventually("all is done", || async { record.done() == sent }).await;
    worker.shutdown().await.expect("ended in order");
    record.assert_each_ran_once(sent);
}
