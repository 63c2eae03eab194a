//! The faults of a run: in sequence and several at a time, chosen by the seed, each recorded with its end.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::Instant};

use super::{
    dice::Dice,
    place::Place,
    scene::Scene,
    settings::Settings,
    stage::{Fault, Stage},
};

/// Injects faults during the run, and ends all of them.
pub(crate) async fn inject(
    settings: &Settings,
    scene: &Arc<Scene>,
    stage: &Arc<dyn Stage>,
    faults: &[Fault],
) {
    let mut dice = Dice::new(settings.seed, "faults");
    let (begin, time) = (Instant::now(), settings.time);
    let mild = mild(faults);
    let mut under_way = JoinSet::new();
    while begin.elapsed() < time {
        tokio::time::sleep(dice.millis(100, 900)).await;
        let is_mild = begin.elapsed() < time / 3;
        let faults = if is_mild { &*mild } else { faults };
        let Some(fault) = dice.pick(faults).copied() else {
            continue;
        };
        // Each has a separate generator, so that the duration of one does not change the following ones.
        let mut own = Dice::new(dice.below(u64::MAX), fault.name);
        let (scene, stage) = (Arc::clone(scene), Arc::clone(stage));
        under_way.spawn(async move {
            if !Fault::OF_PROCESSES.contains(&fault) {
                stage.inject(fault, &scene, &mut own).await;
                return;
            }
            let place = own.pick(scene.places()).expect("places");
            // A target that already has a fault is skipped.
            if let Ok(mut place) = place.try_lock() {
                let who = place.who();
                let broken = break_process(fault, &mut place, &mut own);
                scene.during(fault, &who, broken).await;
            }
        });
    }
    while let Some(ended) = under_way.join_next().await {
        ended.expect("a fault ends");
    }
}

/// The faults of the first third of a run, which never cost a lease: a lost lease has no excuse then.
fn mild(faults: &[Fault]) -> Vec<Fault> {
    let mut mild = faults.to_vec();
    mild.retain(|fault| !fault.cuts_off);
    if let Some(frequent) = mild.iter().find(|fault| fault.is_frequent).copied() {
        let others = mild.len().saturating_sub(2);
        mild.extend(std::iter::repeat_n(frequent, others));
    }
    mild
}

async fn break_process(fault: Fault, place: &mut Place, dice: &mut Dice) {
    match fault {
        Fault::KILL => {
            place.kill().await;
            tokio::time::sleep(dice.millis(0, 1_500)).await;
            place.start().await;
        }
        Fault::DEPLOY => {
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
}
