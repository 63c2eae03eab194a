//! The faults of a run: in sequence and several at a time, chosen by the seed, each recorded with its end.

use std::{sync::Arc, time::Duration};

use asynqueue_test_servers::{Fault as Link, Proxy};
use tokio::{sync::Mutex, task::JoinSet, time::Instant};

use super::{
    journal::Journal,
    settings::{Dice, Fault},
    stage::{Place, Stage},
    store::{Store, send_to_all},
};

/// The fault that one link has at a time.
type Links = Vec<(String, Arc<Mutex<Arc<Proxy>>>)>;

impl Stage {
    /// Injects faults during the run, and ends all of them.
    pub(crate) async fn inject(&self) {
        let mut dice = Dice::new(self.settings.seed, "faults");
        let links: Links = self
            .links
            .iter()
            .map(|(whom, proxy)| (whom.clone(), Arc::new(Mutex::new(Arc::clone(proxy)))))
            .collect();
        let (begin, time) = (Instant::now(), self.settings.time);
        let mild = mild(&self.settings.faults);
        let mut under_way = JoinSet::new();
        while begin.elapsed() < time {
            tokio::time::sleep(dice.millis(100, 900)).await;
            let is_mild = begin.elapsed() < time / 3;
            let faults = if is_mild {
                &mild
            } else {
                &self.settings.faults
            };
            let Some(fault) = dice.pick(faults).copied() else {
                continue;
            };
            // Each has a separate generator, so that the duration of one does not change the following ones.
            let mut own = Dice::new(dice.below(u64::MAX), fault.name());
            let journal = self.journal.clone();
            match fault {
                Fault::Delay
                | Fault::Cut
                | Fault::Swallow
                | Fault::Hold
                | Fault::Blackhole
                | Fault::Late => {
                    let (whom, link) = own.pick(&links).expect("links").clone();
                    under_way.spawn(async move {
                        // A target that already has a fault is skipped.
                        if let Ok(proxy) = link.try_lock_owned() {
                            break_link(&journal, fault, &whom, &proxy, &mut own).await;
                        }
                    });
                }
                Fault::Kill | Fault::Stop | Fault::Deploy => {
                    let place = Arc::clone(own.pick(&self.places).expect("places"));
                    under_way.spawn(async move {
                        if let Ok(mut place) = place.try_lock_owned() {
                            break_process(&journal, fault, &mut place, &mut own).await;
                        }
                    });
                }
                _ => {
                    let store = Arc::clone(&self.store);
                    under_way.spawn(async move {
                        if let Ok(mut store) = store.try_write_owned() {
                            break_store(&journal, fault, &mut store, &mut own).await;
                        }
                    });
                }
            }
        }
        while let Some(ended) = under_way.join_next().await {
            ended.expect("a fault ends");
        }
    }
}

/// The faults of the first third of a run, which never cost a lease: a lost lease has no excuse then. Late requests can
/// lease tasks without a worker, and are chosen as often as all others together.
fn mild(faults: &[Fault]) -> Vec<Fault> {
    let mut mild = faults.to_vec();
    mild.retain(|fault| !fault.cuts_off());
    if mild.contains(&Fault::Late) {
        let others = mild.len().saturating_sub(2);
        mild.extend(std::iter::repeat_n(Fault::Late, others));
    }
    mild
}

async fn begin(journal: &Journal, fault: Fault, whom: &str) {
    journal.note(format!("begin {} {whom}", fault.name())).await;
}

async fn end(journal: &Journal, fault: Fault, whom: &str) {
    journal.note(format!("end {} {whom}", fault.name())).await;
}

async fn break_link(journal: &Journal, fault: Fault, whom: &str, proxy: &Proxy, dice: &mut Dice) {
    let (link, time) = match fault {
        Fault::Delay => (Link::Delay(dice.millis(20, 200)), dice.millis(500, 3_000)),
        Fault::Cut => (Link::CutReplies, dice.millis(100, 1_000)),
        Fault::Swallow => (Link::SwallowReplies, dice.millis(300, 1_500)),
        Fault::Hold => (Link::Hold, dice.millis(300, 4_500)),
        Fault::Late => (Link::Late(dice.millis(600, 2_500)), dice.millis(50, 200)),
        _ => (Link::Blackhole, dice.millis(300, 6_000)),
    };
    begin(journal, fault, whom).await;
    // All connections, or a random selection.
    if dice.below(2) == 0 {
        proxy.set(link);
    } else {
        proxy.set_each(dice.below(u64::MAX), &[link, Link::None]);
    }
    tokio::time::sleep(time).await;
    proxy.set(Link::None);
    end(journal, fault, whom).await;
}

async fn break_process(journal: &Journal, fault: Fault, place: &mut Place, dice: &mut Dice) {
    let who = place.who();
    begin(journal, fault, &who).await;
    match fault {
        Fault::Kill => {
            place.kill().await;
            tokio::time::sleep(dice.millis(0, 1_500)).await;
            place.start().await;
        }
        Fault::Deploy => {
            place.request_end();
            if !place.has_ended(Duration::from_secs(20)).await {
                place.kill().await;
            }
            place.start().await;
        }
        _ => {
            place.signal("STOP");
            tokio::time::sleep(dice.millis(300, 6_000)).await;
            place.signal("CONT");
        }
    }
    end(journal, fault, &who).await;
}

async fn break_store(journal: &Journal, fault: Fault, store: &mut Store, dice: &mut Dice) {
    begin(journal, fault, "all").await;
    match fault {
        Fault::Restart => store.restart(dice.below(2) == 0, dice.millis(0, 800)).await,
        Fault::Pause => {
            if let Store::Single(server) = store {
                server.pause();
                tokio::time::sleep(dice.millis(300, 2_500)).await;
                server.resume();
            }
        }
        Fault::Clients => {
            let kind = *dice.pick(&["normal", "pubsub"]).expect("kinds");
            send_to_all(store.nodes(), &["CLIENT", "KILL", "TYPE", kind]).await;
        }
        Fault::Scripts => send_to_all(store.nodes(), &["SCRIPT", "FLUSH"]).await,
        _ => {
            if let Err(problem) = store.fail_over(dice).await {
                journal
                    .note(format!("problem {}", problem.replace(' ', "_")))
                    .await;
            }
        }
    }
    end(journal, fault, "all").await;
}
