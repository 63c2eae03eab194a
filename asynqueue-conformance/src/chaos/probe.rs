//! Checks whether the store responds at all. If the machine has no time for it, that counts as a fault for all.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use super::{journal::now, scene::Scene, stage::Stage};

const PAUSE: Duration = Duration::from_millis(100);

/// A slower response is a fault.
const SLOW: Duration = Duration::from_millis(250);

/// Checks until it is aborted.
pub(crate) fn start(scene: &Scene, stage: &Arc<dyn Stage>) -> JoinHandle<()> {
    let (journal, stage) = (scene.journal.clone(), Arc::clone(stage));
    tokio::spawn(async move {
        loop {
            let (from, begin) = (now(), Instant::now());
            stage.respond().await;
            if begin.elapsed() > SLOW {
                journal.note(format!("slow {from}")).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    })
}
