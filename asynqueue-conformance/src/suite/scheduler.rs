//! Running schedulers.

use std::{
    path::PathBuf,
    sync::{Arc, LazyLock},
    time::Duration,
};

use asynqueue_core::{
    broker::{Fire, FireOutcome, MissedTicks, SharedBroker, Tick},
    codec::{CodecName, MessagePack},
    scheduler::{Entry, ScheduleError, Scheduler, SchedulerBuilder, SchedulerHandle, Timetable},
    task::{Name, Task, TaskId, TaskOptions, TaskState, Timestamp},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{
    Harness,
    fixture::{Fixture, secs, task_in},
    lifecycle::eventually,
};

#[derive(Serialize, Deserialize)]
struct Tidy {
    days: u32,
}

impl Task for Tidy {
    const EVENT: &'static str = "tidy";
    type Output = ();
    type Codec = MessagePack;

    fn options() -> Arc<TaskOptions> {
        static OPTIONS: LazyLock<Arc<TaskOptions>> = LazyLock::new(|| {
            TaskOptions::shared(|options| {
                options.queue = "q".into();
                options.deadline = Some(secs(600));
            })
        });
        Arc::clone(&OPTIONS)
    }
}

fn tidy(name: &str, rule: &str) -> Entry {
    Entry::new(name, rule, Tidy { days: 90 }).unwrap()
}

fn builder(f: &Fixture<'_>) -> SchedulerBuilder {
    Scheduler::builder(Arc::clone(&f.broker))
}

async fn start(f: &Fixture<'_>, entry: Entry) -> SchedulerHandle {
    builder(f).entry(entry).start().await.unwrap()
}

/// Advances the clock to half a minute past the next whole minute.
async fn to_half_past(f: &Fixture<'_>) {
    let past = f.broker.now().as_millis() % 60_000;
    f.advance(Duration::from_millis(90_000 - past)).await;
}

async fn names(broker: &SharedBroker) -> Vec<Name> {
    let entries = broker.schedules().await.unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}

async fn until_pending(f: &Fixture<'_>, count: usize) -> Vec<String> {
    eventually("tasks are enqueued", async || {
        f.list(TaskState::Pending).await.len() >= count
    })
    .await;
    f.list(TaskState::Pending).await
}

fn minute(f: &Fixture<'_>, ago: u64) -> u64 {
    (f.broker.now().as_millis() / 60_000 - ago) * 60_000
}

/// When the tick is due, with an id made from it, and times relative to it.
pub async fn a_task_is_enqueued_at_each_tick(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    to_half_past(&f).await;
    let scheduler = start(&f, tidy("tidy", "* * * * *")).await;
    assert_eq!(f.list(TaskState::Pending).await, [] as [&str; 0]);
    f.advance(secs(30)).await;
    let first = until_pending(&f, 1).await;
    assert_eq!(first, [format!("tidy@{}", minute(&f, 0))]);
    let info = f.info(&first[0]).await.unwrap();
    assert_eq!(info.envelope.event, "tidy");
    assert_eq!(info.envelope.deadline, Some(f.broker.now() + secs(600)));
    f.advance(secs(60)).await;
    let both = until_pending(&f, 2).await;
    assert_eq!(both[1], format!("tidy@{}", minute(&f, 0)));
    scheduler.shutdown().await;
}

/// For any number of schedulers.
pub async fn several_schedulers_enqueue_each_tick_once(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    to_half_past(&f).await;
    let mut schedulers = Vec::new();
    for _ in 0..3 {
        schedulers.push(start(&f, tidy("tidy", "* * * * *")).await);
    }
    for n in 1..=5 {
        f.advance(secs(60)).await;
        until_pending(&f, n).await;
    }
    for scheduler in schedulers {
        scheduler.shutdown().await;
    }
    assert_eq!(f.list(TaskState::Pending).await.len(), 5);
    let events = f.broker.schedule_events(&"tidy".into(), 10).await.unwrap();
    assert_eq!(events.len(), 5);
}

async fn missed(f: &Fixture<'_>, missed: MissedTicks) -> Vec<String> {
    let entry = || tidy("tidy", "* * * * *").missed(missed);
    to_half_past(f).await;
    start(f, entry()).await.shutdown().await;
    f.advance(secs(600)).await;
    let scheduler = start(f, entry()).await;
    eventually("the entry has advanced", async || {
        let next = f.broker.schedules().await.unwrap()[0].next;
        next > Some(f.broker.now())
    })
    .await;
    scheduler.shutdown().await;
    f.list(TaskState::Pending).await
}

/// As if none had been due.
pub async fn missed_ticks_are_skipped(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    assert_eq!(missed(&f, MissedTicks::Skip).await, [] as [&str; 0]);
    let events = f.broker.schedule_events(&"tidy".into(), 10).await.unwrap();
    assert!(matches!(&events[0].outcome, FireOutcome::Skipped(why) if why.contains("missed")));
}

/// Only the last of them.
pub async fn missed_ticks_are_caught_up_once(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let enqueued = missed(&f, MissedTicks::Once).await;
    assert_eq!(enqueued, [format!("tidy@{}", minute(&f, 0))]);
}

/// Up to a maximum.
pub async fn the_last_missed_ticks_are_caught_up(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let enqueued = missed(&f, MissedTicks::Last(3)).await;
    let expected = [2, 1, 0].map(|ago| format!("tidy@{}", minute(&f, ago)));
    assert_eq!(enqueued, expected);
}

/// By any process.
pub async fn entries_can_be_changed_at_run_time(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    to_half_past(&f).await;
    let timetable = Timetable::new(Arc::clone(&f.broker));
    let scheduler = builder(&f).start().await.unwrap();
    timetable.put(tidy("tidy", "* * * * *")).await.unwrap();
    f.advance(secs(60)).await;
    until_pending(&f, 1).await;
    timetable.pause("tidy").await.unwrap();
    assert!(timetable.entries().await.unwrap()[0].paused);
    f.advance(secs(300)).await;
    let triggered = timetable.trigger("tidy").await.unwrap();
    assert_eq!(
        f.state(triggered.id.as_str()).await,
        Some(TaskState::Pending)
    );
    timetable.resume("tidy").await.unwrap();
    let next = timetable.entries().await.unwrap()[0].next;
    assert!(next > Some(f.broker.now()));
    assert_eq!(f.list(TaskState::Pending).await.len(), 2);
    f.advance(secs(60)).await;
    until_pending(&f, 3).await;
    assert!(timetable.remove("tidy").await.unwrap());
    assert!(timetable.pause("tidy").await.is_err());
    scheduler.shutdown().await;
}

/// Neither overwrites the other, whichever is first.
pub async fn racing_changes_at_run_time_are_both_kept(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let timetable = Timetable::new(Arc::clone(&f.broker));
    let both = async |first: bool| {
        let (pause, put) = (
            timetable.pause("tidy"),
            timetable.put(tidy("tidy", "@daily")),
        );
        // The one that is polled first reads first.
        if first {
            tokio::try_join!(pause, put).unwrap();
        } else {
            tokio::try_join!(put, pause).unwrap();
        }
    };
    for n in 0..20 {
        timetable.put(tidy("tidy", "@hourly")).await.unwrap();
        timetable.resume("tidy").await.unwrap();
        both(n % 2 == 0).await;
        let entry = timetable.entries().await.unwrap().remove(0);
        assert_eq!((&*entry.rule, entry.paused), ("@daily", true));
        let (paused, removed) = tokio::join!(timetable.resume("tidy"), timetable.remove("tidy"));
        assert!(removed.unwrap());
        assert!(matches!(
            paused,
            Ok(()) | Err(ScheduleError::Unknown { .. })
        ));
        assert_eq!(names(&f.broker).await, [] as [Name; 0]);
    }
}

/// However far the clock was ahead, and however briefly.
pub async fn a_schedule_continues_when_the_clock_is_corrected(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    to_half_past(&f).await;
    start(&f, tidy("tidy", "* * * * *")).await.shutdown().await;
    // The state after a scheduler with a clock one day ahead has fired a tick.
    let tomorrow = Timestamp::from_millis(minute(&f, 0)) + secs(24 * 3_600);
    let seen = f.broker.schedules().await.unwrap().remove(0);
    let mut ahead = seen.clone();
    ahead.next = Some(tomorrow);
    f.broker.put_schedules(vec![ahead]).await.unwrap();
    let mut task = task_in("q", &format!("tidy@{}", tomorrow.as_millis()));
    task.event = "tidy".into();
    let fire = Fire {
        name: "tidy".into(),
        tick: tomorrow,
        what: Tick::Enqueue(task, tomorrow),
        next: Some(tomorrow + secs(60)),
    };
    assert_eq!(f.broker.fire(vec![fire]).await.unwrap(), [Ok(true)]);

    let scheduler = start(&f, tidy("tidy", "* * * * *")).await;
    eventually("its next tick is set back", async || {
        f.broker.schedules().await.unwrap()[0].next == seen.next
    })
    .await;
    let event = f.broker.schedule_events(&"tidy".into(), 1).await.unwrap();
    assert_eq!(event[0].tick, tomorrow + secs(60));
    assert!(matches!(&event[0].outcome, FireOutcome::Skipped(why) if why.contains("clock")));
    for n in 1..=2 {
        f.advance(secs(60)).await;
        let pending = until_pending(&f, n).await;
        assert_eq!(pending[n - 1], format!("tidy@{}", minute(&f, 0)));
    }
    scheduler.shutdown().await;
}

/// A later version may have created it and can read it. Its history records this once.
pub async fn an_entry_with_an_unreadable_rule_is_left_to_others(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    to_half_past(&f).await;
    start(&f, tidy("lunar", "* * * * *")).await.shutdown().await;
    let due = f.broker.now() - secs(30);
    let mut lunar = f.broker.schedules().await.unwrap().remove(0);
    lunar.rule = "@full-moon".into();
    lunar.next = Some(due);
    f.broker.put_schedules(vec![lunar.clone()]).await.unwrap();
    let scheduler = start(&f, tidy("tidy", "* * * * *")).await;
    for n in 1..=3 {
        f.advance(secs(60)).await;
        until_pending(&f, n).await;
    }
    assert_eq!(
        f.broker.schedule(&"lunar".into()).await.unwrap(),
        Some(lunar.clone())
    );
    let events = f.broker.schedule_events(&"lunar".into(), 10).await.unwrap();
    assert_eq!(events.len(), 1);
    assert!(matches!(&events[0].outcome, FireOutcome::Skipped(why) if why.contains("@full-moon")));
    let mut readable = lunar;
    readable.rule = "* * * * *".into();
    f.broker.put_schedules(vec![readable]).await.unwrap();
    until_pending(&f, 4).await;
    scheduler.shutdown().await;
}

/// It keeps its next tick, and whether it is paused.
pub async fn an_entry_that_is_put_again_keeps_its_state(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    to_half_past(&f).await;
    start(&f, tidy("tidy", "* * * * *")).await.shutdown().await;
    let timetable = Timetable::new(Arc::clone(&f.broker));
    timetable.pause("tidy").await.unwrap();
    let before = timetable.entries().await.unwrap();
    f.advance(secs(600)).await;
    start(&f, tidy("tidy", "* * * * *")).await.shutdown().await;
    assert_eq!(timetable.entries().await.unwrap(), before);
    start(&f, tidy("tidy", "@hourly")).await.shutdown().await;
    let after = timetable.entries().await.unwrap().remove(0);
    assert_eq!((after.rule.as_str(), after.paused), ("@hourly", true));
    assert!(after.next > Some(f.broker.now()));
}

/// Entries of other owners stay.
pub async fn entries_that_their_owner_no_longer_declares_are_removed(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let start = async |owner: &str, entries: &[&str]| {
        let mut scheduler = builder(&f).owner(owner);
        for name in entries {
            scheduler = scheduler.entry(tidy(name, "@daily"));
        }
        scheduler.start().await.unwrap().shutdown().await;
    };
    start("shop", &["a", "b"]).await;
    start("bank", &["c"]).await;
    start("shop", &["b"]).await;
    assert_eq!(names(&f.broker).await, ["b", "c"]);
}

/// They can change a task before it is enqueued, and learn the outcome.
pub async fn hooks_are_called_before_and_after_a_tick(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    to_half_past(&f).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let scheduler = builder(&f)
        .entry(tidy("tidy", "* * * * *"))
        .entry(tidy("never", "* * * * *"))
        .before(|entry, tick, task| {
            task.headers.insert("tick", tick.as_millis().to_string());
            match &*entry.name {
                "never" => Err("it is a holiday".into()),
                _ => Ok(()),
            }
        })
        .after(move |entry, _, fired| noted.lock().push((entry.name.clone(), fired.is_ok())));
    let scheduler = scheduler.start().await.unwrap();
    f.advance(secs(60)).await;
    let enqueued = until_pending(&f, 1).await;
    eventually("both are seen", async || seen.lock().len() == 2).await;
    scheduler.shutdown().await;
    let info = f.info(&enqueued[0]).await.unwrap();
    let tick = minute(&f, 0).to_string();
    assert_eq!(info.envelope.headers.get("tick"), Some(&*tick));
    assert_eq!(f.list(TaskState::Pending).await.len(), 1);
    let events = f.broker.schedule_events(&"never".into(), 1).await.unwrap();
    let skipped = FireOutcome::Skipped("it is a holiday".into());
    assert_eq!(events[0].outcome, skipped);
}

/// By a random part of it. The tick stays the same.
pub async fn a_task_waits_for_its_jitter(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    to_half_past(&f).await;
    let entry = tidy("tidy", "* * * * *").jitter(secs(3_600));
    let scheduler = start(&f, entry).await;
    f.advance(secs(60)).await;
    eventually("it is enqueued", async || f.stats().await.total() == 1).await;
    scheduler.shutdown().await;
    let tick = minute(&f, 0);
    let info = f.info(&format!("tidy@{tick}")).await.unwrap();
    let latest = Timestamp::from_millis(tick) + secs(3_600);
    assert!(info.at.is_none_or(|at| at <= latest), "{:?}", info.at);
}

/// An archived task of one tick does not block the next.
pub async fn a_tick_is_not_blocked_by_the_previous_one(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    to_half_past(&f).await;
    let scheduler = start(&f, tidy("tidy", "* * * * *")).await;
    f.advance(secs(60)).await;
    let first = until_pending(&f, 1).await;
    let refs = [super::fixture::task_ref(&first[0])];
    f.broker.cancel(&refs, "not needed").await.unwrap();
    f.advance(secs(60)).await;
    until_pending(&f, 1).await;
    scheduler.shutdown().await;
    assert_eq!(f.list(TaskState::Archived).await, first);
}

/// A file for this test.
struct File(PathBuf);

impl File {
    fn new(content: &str) -> Self {
        let name = format!("asynqueue-{}.toml", TaskId::generate());
        let file = Self(std::env::temp_dir().join(name));
        file.write(content);
        file
    }

    fn write(&self, content: &str) {
        std::fs::write(&self.0, content).unwrap();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

const FILE: &str = r#"
[[schedule]]
name = "full"
rule = "0 3 * * *"
zone = "Europe/Berlin"
event = "tidy"
payload = { days = 7 }
queue = "q"
missed = 5
jitter = "30s"
max_retry = 3
timeout = "10m"
priority = 2
retention = "1h"

[[schedule]]
name = "short"
rule = "@hourly"
event = "other"
"#;

/// Entries that are removed from the file are removed, and an invalid file changes nothing.
pub async fn entries_come_from_a_watched_file(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let file = File::new(FILE);
    let scheduler = builder(&f).file(&file.0).start().await.unwrap();
    let entries = f.broker.schedules().await.unwrap();
    assert_eq!(entries.len(), 2);
    let full = &entries[0];
    assert_eq!(full.rule, "TZ=Europe/Berlin 0 3 * * *");
    assert_eq!((full.missed, full.jitter), (MissedTicks::Last(5), secs(30)));
    let (template, options) = (&full.template, &full.template.options);
    assert_eq!((&*template.event, &*template.queue), ("tidy", "q"));
    assert_eq!(template.codec, CodecName::of::<MessagePack>());
    let payload = template
        .codec
        .decode::<Tidy, MessagePack>(&template.payload);
    assert_eq!(payload.unwrap().days, 7);
    assert_eq!((options.max_retry, options.priority), (3, 2));
    assert_eq!(
        (options.timeout, options.retention),
        (secs(600), secs(3_600))
    );
    file.write("[[schedule]]\nname = \"bad\"\nrule = \"0 25 * * *\"\nevent = \"tidy\"");
    file.write(&FILE.replace("short", "new"));
    eventually("the change takes effect", async || {
        names(&f.broker).await == ["full", "new"]
    })
    .await;
    scheduler.shutdown().await;
}

/// The error shows the name and position.
pub async fn an_invalid_file_is_refused(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let refused = async |content: &str| {
        let file = File::new(content);
        let error = builder(&f).file(&file.0).start().await.unwrap_err();
        let message = error.to_string();
        assert!(message.contains(&*file.0.to_string_lossy()), "{message}");
        message
    };
    let row = |line: &str| format!("[[schedule]]\nname = \"a\"\nevent = \"tidy\"\n{line}");
    let message = refused(&row("rule = \"0 25 * * *\"")).await;
    assert!(
        message.contains("at position 2: field 2 (hour): `25` is not in 0–23"),
        "{message}"
    );
    let message = refused(&row("rule = \"@daily\"\nzone = \"Berlin\"")).await;
    assert!(
        message.contains("did you mean `Europe/Berlin`"),
        "{message}"
    );
    let message = refused(&row("rule = \"@daily\"\nmised = \"skip\"")).await;
    assert!(
        message.contains("line 5") && message.contains("`mised`"),
        "{message}"
    );
    let message = refused(&row("rule = \"@daily\"\nmissed = \"never\"")).await;
    assert!(message.contains("entry `a`: missed: `never`"), "{message}");
    let message = refused(&row("rule = \"@daily\"\njitter = \"soon\"")).await;
    assert!(message.contains("entry `a`: jitter: `soon`"), "{message}");
    assert_eq!(names(&f.broker).await, [] as [Name; 0]);
    let nowhere = builder(&f).file("/nowhere/schedules.toml").start().await;
    assert!(
        nowhere
            .unwrap_err()
            .to_string()
            .contains("/nowhere/schedules.toml")
    );
}

/// Before anything is stored.
pub async fn invalid_entries_are_refused(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let unnamed = Entry::new("a b", "@daily", Tidy { days: 1 });
    assert!(unnamed.unwrap_err().to_string().contains("`a b`"));
    let never = builder(&f).entry(tidy("leap", "0 0 30 2 *")).start().await;
    assert!(
        never
            .unwrap_err()
            .to_string()
            .contains("`leap`: rule `0 0 30 2 *` is never due")
    );
    let twice = builder(&f)
        .entry(tidy("a", "@daily"))
        .entry(tidy("a", "@hourly"));
    let twice = twice.start().await.unwrap_err().to_string();
    assert!(
        twice.contains("two schedule entries are named `a`"),
        "{twice}"
    );
    let urgent = tidy("a", "@daily").options(|call| call.priority(10));
    let urgent = builder(&f)
        .entry(urgent)
        .start()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        urgent.contains("schedule entry `a`: option `priority`"),
        "{urgent}"
    );
    assert_eq!(names(&f.broker).await, [] as [Name; 0]);
    // A schedule does not create the queue of a task in another queue.
    f.enqueue([task_in("other", "a")]).await;
    assert_eq!(f.broker.queues().await.unwrap(), ["other"]);
}
