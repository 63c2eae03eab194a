//! Batches larger than any chunk of a broker: results are complete and in order.

use std::sync::Arc;

use asynqueue_core::{
    broker::{
        CancelOutcome, Extended, Keep, Lease, Leased, NewTask, Outcome, Settled, Settlement, When,
        all_of,
    },
    process::Progress,
    task::{TaskRef, TaskState, Timestamp},
};

use super::{
    Harness,
    fixture::{Fixture, LEASE, QUEUE, complete, failed, retained, secs, task, task_ref},
};

/// More than two chunks of a thousand, and not a multiple of a chunk.
const MANY: usize = 2_345;

fn name(n: usize) -> String {
    format!("task-{n:04}")
}

fn refs() -> Vec<TaskRef> {
    (0..MANY).map(|n| task_ref(&name(n))).collect()
}

async fn lease_many(f: &Fixture<'_>) -> Vec<Leased> {
    f.enqueue((0..MANY).map(|n| retained(&name(n), secs(60))))
        .await;
    let leased = f.lease(MANY).await;
    let in_order = (0..MANY).map(name);
    assert!(
        leased
            .iter()
            .map(|leased| leased.envelope.id.to_string())
            .eq(in_order)
    );
    leased
}

/// Every seventh lease has a wrong token.
pub async fn a_large_batch_of_leases_is_extended(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let leases = lease_many(&f).await;
    let leases: Vec<Lease> = leases
        .iter()
        .enumerate()
        .map(|(n, leased)| {
            if n % 7 == 0 {
                super::fixture::other_token(leased).lease()
            } else {
                leased.lease()
            }
        })
        .collect();
    let extended = all_of(f.broker.extend(&leases, LEASE).await).unwrap();
    let expected = (0..MANY).map(|n| match n % 7 {
        0 => Extended::Lost,
        _ => Extended::Yes,
    });
    assert!(extended.into_iter().eq(expected));
}

/// With every kind of outcome, and some that are refused.
pub async fn a_large_batch_of_outcomes_is_settled(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let settlements: Vec<Settlement> = (lease_many(&f).await.into_iter().enumerate())
        .map(|(n, leased)| {
            let delay = secs(60);
            let outcome = match n % 7 {
                0 => return super::fixture::other_token(&leased).settle(complete()),
                1 => Outcome::Complete { result: None },
                2 => Outcome::Retry { delay },
                3 => Outcome::Snooze { delay },
                4 => Outcome::Release,
                5 => Outcome::Archive,
                _ => Outcome::Drop,
            };
            let envelope = failed(&leased.envelope);
            Settlement {
                envelope,
                ..leased.settle(outcome)
            }
        })
        .collect();
    let settled = all_of(f.broker.settle(&settlements).await).unwrap();
    let expected = (0..MANY).map(|n| match n % 7 {
        0 => Settled::Stale,
        _ => Settled::Recorded,
    });
    assert!(settled.into_iter().eq(expected));
    // MANY is a multiple of seven.
    let each = MANY as u64 / 7;
    f.assert_counts(&super::fixture::STATES.map(|state| (state, each)))
        .await;
    let found = f.broker.tasks(&refs()).await.unwrap();
    let states = [
        Some(TaskState::Active),
        Some(TaskState::Completed),
        Some(TaskState::Retry),
        Some(TaskState::Scheduled),
        Some(TaskState::Pending),
        Some(TaskState::Archived),
        None,
    ];
    for (n, found) in found.iter().enumerate() {
        assert_eq!(found.as_ref().map(|info| info.state), states[n % 7], "{n}");
    }
}

/// In one call.
pub async fn a_large_backlog_is_forwarded(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let later = |n| NewTask::new(task(&name(n)), When::After(secs(10)));
    let accepted = f.try_enqueue((0..MANY).map(later).collect()).await;
    assert!(accepted.iter().all(Result::is_ok));
    f.advance(secs(20)).await;
    let forwarded = all_of(f.broker.forward(&[QUEUE.into()], MANY * 2).await).unwrap();
    assert_eq!((forwarded[0].moved, forwarded[0].next_due), (MANY, None));
    f.assert_counts(&[(TaskState::Pending, MANY as u64)]).await;
}

/// For example after every server was lost.
pub async fn a_large_fleets_leases_are_reclaimed(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    lease_many(&f).await;
    f.advance(LEASE * 2).await;
    let lost = all_of(
        f.broker
            .expired(&[QUEUE.into()], Timestamp::MAX, MANY * 2)
            .await,
    )
    .unwrap()
    .concat();
    assert_eq!(lost.len(), MANY);
    let settlements: Vec<_> = lost
        .into_iter()
        .map(|lost| lost.settle(Outcome::Retry { delay: secs(0) }))
        .collect();
    let settled = all_of(f.broker.settle(&settlements).await).unwrap();
    assert!(settled.iter().all(|settled| *settled == Settled::Recorded));
    assert_eq!(f.lease(MANY * 2).await.len(), MANY);
}

/// In one call too.
pub async fn a_large_number_of_finished_tasks_is_trimmed(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let leased = lease_many(&f).await;
    let settlements: Vec<_> = (leased.into_iter().enumerate())
        .map(|(n, leased)| match n % 2 {
            0 => leased.settle(complete()),
            _ => leased.settle(Outcome::Archive),
        })
        .collect();
    all_of(f.broker.settle(&settlements).await).unwrap();
    f.advance(secs(120)).await;
    let none = Keep::default().archived_max(0);
    assert_eq!(f.trim(none, MANY * 2).await.deleted(), MANY);
    f.assert_counts(&[]).await;
}

/// Then run again, and deleted.
pub async fn a_large_batch_is_cancelled(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue((0..MANY).map(|n| task(&name(n)))).await;
    let refs = refs();
    let cancelled = f.broker.cancel(&refs, "all").await.unwrap();
    assert_eq!(cancelled, vec![CancelOutcome::Cancelled; MANY]);
    f.assert_counts(&[(TaskState::Archived, MANY as u64)]).await;
    let run = f.broker.run_now(&refs).await.unwrap();
    assert_eq!(run, vec![true; MANY]);
    assert_eq!(f.list(TaskState::Pending).await.len(), MANY);
    let deleted = f.broker.delete(&refs).await.unwrap();
    assert_eq!(deleted, vec![true; MANY]);
    f.assert_counts(&[]).await;
}

/// As a large server reports it for all its tasks.
pub async fn progress_of_a_large_batch_is_kept(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let leased = lease_many(&f).await;
    let progress = |done| Progress::new(done, 0, "");
    let leases = leased.iter().map(Leased::lease);
    let reports = leases.zip((0..).map(progress)).collect();
    f.broker.report(reports).await.unwrap();
    let found = f.broker.tasks(&refs()).await.unwrap();
    let done = found
        .into_iter()
        .map(|info| info.unwrap().progress.unwrap().done);
    assert!(done.eq(0..MANY as u64));
}

/// In an envelope, or as its result.
pub async fn a_large_payload_is_kept(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    // Every byte value, so that nothing can treat it as text.
    let large: bytes::Bytes = (0..=u8::MAX).cycle().take(1 << 20).collect();
    let mut envelope = retained("a", secs(60));
    envelope.payload = large.clone();
    f.enqueue([envelope]).await;
    let leased = f.lease_one().await;
    assert!(leased.envelope.payload == large);
    let result = Some(large);
    let outcome = Outcome::Complete {
        result: result.clone(),
    };
    f.settle_as(&leased, Arc::clone(&leased.envelope), outcome)
        .await;
    assert!(f.info("a").await.unwrap().result == result);
}
