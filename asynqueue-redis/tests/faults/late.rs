//! Requests that arrive late, after they were sent again, and lost responses.

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{
        self, Broker, CancelOutcome, Control, DocumentSwap, Expect, Fleet, Inspect, Lease,
        MissedTicks, Move, Outcome, Put, Replacement, ScheduleEntry, ScheduleSwap, Schedules,
        Settled, Settlement, Space, Subscriptions,
    },
    process::Progress,
    task::{Name, TaskId, TaskRef, TaskState, Timestamp},
};
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_test_servers::{Fault, LateProxy, Proxy, RedisServer, eventually};
use redis::cmd;

use super::common::{connect, lease, send, task};

const HOUR: Duration = Duration::from_secs(3600);

/// A Redis, a client behind the proxy and a direct one.
struct Setting {
    redis: RedisServer,
    proxy: LateProxy,
    client: RedisBroker,
    direct: RedisBroker,
}

impl Setting {
    async fn new(response_timeout: Duration) -> Self {
        let redis = RedisServer::start().await;
        let proxy = LateProxy::start(redis.port()).await;
        let options = RedisOptions::new(&proxy.url()).unwrap();
        let options = options.response_timeout(response_timeout).pool_size(1);
        let client = RedisBroker::connect(options).await.unwrap();
        let direct = connect(&redis.url()).await;
        // Loads the scripts, and creates what exists before the first task.
        for broker in [&client, &direct] {
            send(broker, [task("warm", &TaskId::generate().to_string())]).await;
            lease(broker, "warm", 10).await;
        }
        Self {
            redis,
            proxy,
            client,
            direct,
        }
    }

    /// The schedule entry, active and paused.
    async fn entry_and_paused(&self) -> (ScheduleEntry, ScheduleEntry) {
        let entry = self
            .direct
            .schedule(&"entry".into())
            .await
            .unwrap()
            .unwrap();
        let mut paused = entry.clone();
        paused.paused = true;
        (entry, paused)
    }

    /// Delivers the held requests after their deadline.
    async fn deliver_too_late(&self) -> String {
        let held = self.proxy.held();
        let deadline = held.iter().filter_map(|request| deadline_of(request)).max();
        let deadline = deadline.expect("a deadline");
        let connection = self.redis.connection().await;
        eventually("its deadline has passed", || {
            let mut connection = connection.clone();
            async move {
                let (seconds, micros): (u64, u64) =
                    cmd("TIME").query_async(&mut connection).await.unwrap();
                seconds * 1_000 + micros / 1_000 > deadline
            }
        })
        .await;
        self.proxy.deliver().await
    }
}

/// The deadline of a request: thirteen digits after a `<` or a `!`.
fn deadline_of(request: &[u8]) -> Option<u64> {
    let marked = request
        .windows(14)
        .find(|part| matches!(part[0], b'<' | b'!') && part[1..].iter().all(u8::is_ascii_digit))?;
    std::str::from_utf8(&marked[1..]).ok()?.parse().ok()
}

fn entry(name: &str) -> ScheduleEntry {
    let mut entry = ScheduleEntry::new(name, "@every 1h", task("q", "template"));
    entry.next = Some(Timestamp::from_millis(4_000_000_000_000));
    entry.missed = MissedTicks::Once;
    entry.source = "test".into();
    entry
}

fn swap(seen: Option<ScheduleEntry>, new: Option<ScheduleEntry>) -> Vec<ScheduleSwap> {
    let name = "entry".into();
    vec![ScheduleSwap { name, seen, new }]
}

fn of(id: &str) -> TaskRef {
    TaskRef::new("q", TaskId::new(id).unwrap())
}

async fn state(broker: &RedisBroker, id: &str) -> Option<TaskState> {
    let found = broker.tasks(&[of(id)]).await.unwrap().remove(0);
    found.map(|found| found.state)
}

async fn is_paused(broker: &RedisBroker) -> bool {
    broker.stats(&["q".into()]).await.unwrap()[0].paused
}

/// Also if the second call found nothing, or the queue was paused: otherwise it would lease tasks without a worker.
#[tokio::test]
async fn a_lease_request_that_arrives_after_its_repetition_leases_nothing() {
    for paused in [false, true] {
        let s = Setting::new(Duration::from_secs(10)).await;
        s.direct.set_paused(&["q".into()], paused).await.unwrap();
        s.proxy.hold_next("");
        assert_eq!(lease(&s.client, "q", 10).await.len(), 0);
        send(&s.direct, (0..5).map(|n| task("q", &n.to_string()))).await;
        s.direct.set_paused(&["q".into()], false).await.unwrap();
        let answer = s.proxy.deliver().await;
        assert!(answer.contains("seen"), "{answer}");
        assert_eq!(lease(&s.direct, "q", 10).await.len(), 5);
    }
}

/// A change, and another one by the same process since.
#[tokio::test]
async fn a_change_that_arrives_after_its_repetition_is_not_made_again() {
    let s = Setting::new(Duration::from_secs(10)).await;
    let q: [Name; 1] = ["q".into()];
    s.proxy.hold_next("PUBLISH");
    s.client.set_paused(&q, true).await.unwrap();
    s.client.set_paused(&q, false).await.unwrap();
    s.proxy.deliver().await;
    assert!(!is_paused(&s.direct).await);

    let put = swap(None, Some(entry("entry")));
    s.client.swap_schedules(put).await.unwrap();
    let (running, stopped) = s.entry_and_paused().await;
    let pause = swap(Some(running.clone()), Some(stopped.clone()));
    s.proxy.hold_next("entry");
    assert_eq!(s.client.swap_schedules(pause).await.unwrap(), [true]);
    let resume = swap(Some(stopped), Some(running));
    assert_eq!(s.client.swap_schedules(resume).await.unwrap(), [true]);
    s.proxy.deliver().await;
    let found = s.direct.schedule(&"entry".into()).await.unwrap().unwrap();
    assert!(!found.paused);

    send(&s.direct, [task("q", "a")]).await;
    s.proxy.hold_next("PUBLISH");
    assert!(s.client.delete_queue(&"q".into(), true).await.unwrap());
    send(&s.direct, [task("q", "b")]).await;
    s.proxy.deliver().await;
    assert_eq!(state(&s.direct, "b").await, Some(TaskState::Pending));
}

#[tokio::test]
async fn a_request_after_its_deadline_changes_nothing() {
    let s = Setting::new(Duration::from_millis(500)).await;
    let q: [Name; 1] = ["q".into()];
    let late = async || {
        let answer = s.deliver_too_late().await;
        assert!(answer.contains("ASYNQUEUE_LATE"), "{answer}");
    };

    s.proxy.hold_next("PUBLISH");
    s.client.set_paused(&q, true).await.unwrap();
    s.direct.set_paused(&q, false).await.unwrap();
    late().await;
    assert!(!is_paused(&s.direct).await);

    send(&s.direct, [task("q", "a")]).await;
    let leased = lease(&s.direct, "q", 1).await.remove(0);
    let held = Lease {
        task: leased.envelope.task_ref(),
        token: leased.token,
    };
    s.proxy.hold_next("");
    s.client
        .extend(std::slice::from_ref(&held), HOUR)
        .await
        .unwrap();
    s.direct
        .extend(std::slice::from_ref(&held), Duration::from_secs(1))
        .await
        .unwrap();
    late().await;
    let until = s.direct.tasks(&[of("a")]).await.unwrap().remove(0).unwrap();
    assert!(until.lease.unwrap().until < s.direct.now() + Duration::from_secs(60));

    let progress = |done| Progress::new(done, 10, "");
    s.proxy.hold_next("");
    s.client
        .report(vec![(held.clone(), progress(1))])
        .await
        .unwrap();
    s.direct.report(vec![(held, progress(2))]).await.unwrap();
    late().await;
    let found = s.direct.tasks(&[of("a")]).await.unwrap().remove(0).unwrap();
    assert_eq!(found.progress, Some(progress(2)));

    let put = swap(None, Some(entry("entry")));
    s.direct.swap_schedules(put.clone()).await.unwrap();
    s.proxy.hold_next("entry");
    assert_eq!(
        s.client.remove_schedules(&["entry".into()]).await.unwrap(),
        [true]
    );
    s.direct.swap_schedules(put).await.unwrap();
    late().await;
    assert!(s.direct.schedule(&"entry".into()).await.unwrap().is_some());
    let (running, stopped) = s.entry_and_paused().await;
    let pause = swap(Some(running.clone()), Some(stopped.clone()));
    s.proxy.hold_next("entry");
    assert_eq!(s.client.swap_schedules(pause).await.unwrap(), [true]);
    let resume = swap(Some(stopped), Some(running));
    s.direct.swap_schedules(resume).await.unwrap();
    late().await;
    assert!(
        !s.direct
            .schedule(&"entry".into())
            .await
            .unwrap()
            .unwrap()
            .paused
    );

    s.proxy.hold_next("PUBLISH");
    assert!(s.client.delete_queue(&"q".into(), true).await.unwrap());
    send(&s.direct, [task("q", "b")]).await;
    late().await;
    assert_eq!(state(&s.direct, "b").await, Some(TaskState::Pending));

    s.proxy.hold_next("");
    s.client.leave(&"server".into()).await.unwrap();
    late().await;
}

/// The caller does not know that it was sent twice.
#[tokio::test]
async fn a_repeated_call_returns_the_first_response() {
    let s = Setting::new(Duration::from_secs(10)).await;
    send(
        &s.direct,
        ["cancel", "delete", "replace"].map(|id| task("q", id)),
    )
    .await;

    s.proxy.lose_next_answer("$6\r\ncancel\r\n$6\r\ncancel");
    let cancelled = s.client.cancel(&[of("cancel")], "why").await.unwrap();
    assert_eq!(cancelled, [CancelOutcome::Cancelled]);
    s.proxy.lose_next_answer("$3\r\nrun");
    assert_eq!(s.client.run_now(&[of("cancel")]).await.unwrap(), [true]);
    s.proxy.lose_next_answer("$6\r\ndelete\r\n$6\r\ndelete");
    assert_eq!(s.client.delete(&[of("delete")]).await.unwrap(), [true]);
    let seen = s
        .direct
        .tasks(&[of("replace")])
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    let envelope = Arc::clone(&seen.envelope);
    let change = Replacement::new(seen, envelope, Some(Move::Archived));
    s.proxy.lose_next_answer("$6\r\nshelve");
    assert_eq!(s.client.replace(vec![change]).await.unwrap(), [true]);

    let subscriber: [(Name, Name); 1] = [("event".into(), "one".into())];
    s.direct.subscribe(subscriber.to_vec()).await.unwrap();
    s.proxy.lose_next_answer("");
    assert_eq!(s.client.unsubscribe(&subscriber).await.unwrap(), [true]);
    let put = swap(None, Some(entry("entry")));
    s.proxy.lose_next_answer("");
    assert_eq!(s.client.swap_schedules(put).await.unwrap(), [true]);
    s.proxy.lose_next_answer("");
    assert_eq!(
        s.client.remove_schedules(&["entry".into()]).await.unwrap(),
        [true]
    );
    s.proxy.lose_next_answer("PUBLISH");
    assert!(s.client.delete_queue(&"q".into(), true).await.unwrap());

    // Also the documents that it read in that step.
    let seen = || DocumentSwap::new(Space::Marks, "seen", Expect::Any, Put::Keep);
    let put = |name, content: &'static str| {
        let put = Put::Set(content.into(), None);
        DocumentSwap::new(Space::Marks, name, Expect::Absent, put)
    };
    s.proxy.lose_next_answer("");
    let set = vec![put("seen", "new"), seen()];
    let swapped = broker::Store::swap(&s.client, vec![set]).await.unwrap();
    assert_eq!(
        (swapped[0].is_done, &swapped[0].kept[..]),
        (true, &[None][..])
    );
}

/// Two outcomes of one lease, such as those of a worker and of a server that reclaims its task.
#[tokio::test]
async fn an_outcome_does_not_get_the_response_of_another_with_the_same_lease() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::start(redis.port()).await;
    let options = RedisOptions::new(&proxy.url()).unwrap();
    let options = options.response_timeout(Duration::from_millis(300));
    let options = options.retry_for(Duration::ZERO).pool_size(1);
    let client = RedisBroker::connect(options).await.unwrap();
    // Loads the scripts.
    send(&client, [task("q", "warm")]).await;
    let warm = lease(&client, "q", 1).await.remove(0);
    client.settle(&[warm.settle(Outcome::Drop)]).await.unwrap();
    for change in [
        |other: &mut Settlement| other.only_if_expired = true,
        |other: &mut Settlement| Arc::make_mut(&mut other.envelope).attempts += 1,
    ] {
        send(&client, [task("q", &TaskId::generate().to_string())]).await;
        let leased = lease(&client, "q", 1).await.remove(0);
        let delay = Duration::from_secs(60);
        let first = leased.settle(Outcome::Retry { delay });
        let mut other = first.clone();
        change(&mut other);
        proxy.set(Fault::SwallowReplies);
        let lost = client.settle(std::slice::from_ref(&first)).await.unwrap();
        assert!(lost[0].is_err(), "{lost:?}");
        proxy.set(Fault::None);
        let answers = client.settle(&[other]).await.unwrap();
        assert_eq!(*answers[0].as_ref().unwrap(), Settled::Stale);
        let answers = client.settle(&[first]).await.unwrap();
        assert!(answers[0].is_ok(), "{answers:?}");
    }
}

/// By the client's estimate of the time, each call would be late until a response corrects it.
#[tokio::test]
async fn a_clock_ahead_of_the_clients_estimate_refuses_no_call_permanently() {
    let redis = RedisServer::start().await;
    let proxy = LateProxy::start(redis.port()).await;
    proxy.put_clock_back(3600);
    let client = connect(&proxy.url()).await;
    let direct = connect(&redis.url()).await;
    assert!(
        client.now() + HOUR / 2 < direct.now(),
        "the estimate is wrong"
    );
    send(&client, [task("q", "a")]).await;
    let is_right = |client: &RedisBroker| client.now() + Duration::from_secs(60) > direct.now();
    assert!(
        is_right(&client),
        "the first response corrects the estimate"
    );
    assert_eq!(lease(&client, "q", 1).await.len(), 1);
}

/// A producer knows the time without leasing.
#[tokio::test]
async fn the_response_to_an_enqueue_contains_the_time() {
    let redis = RedisServer::start().await;
    let proxy = LateProxy::start(redis.port()).await;
    // While calls are in time anyway.
    proxy.put_clock_back(30);
    let options = RedisOptions::new(&proxy.url()).unwrap();
    let options = options.response_timeout(Duration::from_secs(60));
    let client = RedisBroker::connect(options).await.unwrap();
    let direct = connect(&redis.url()).await;
    let second = Duration::from_secs(1);
    assert!(
        client.now() + 20 * second < direct.now(),
        "the estimate is wrong"
    );
    // The first script of a connection is sent twice, because Redis does not know it.
    send(&client, [task("q", "a")]).await;
    assert!(client.now() + 10 * second > direct.now());
}
