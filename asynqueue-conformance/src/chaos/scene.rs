//! The processes of a run and the record of its faults.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::sync::Mutex;

use super::{
    journal::Journal,
    place::Place,
    settings::Settings,
    stage::{Fault, Stage},
};

/// How many processes there are of each role.
const ROLES: [(&str, usize); 3] = [("worker", 3), ("producer", 2), ("operator", 1)];

/// How long a process may take to end in order.
const ENDED_IN: Duration = Duration::from_secs(40);

/// The processes of a run, and the journal of the faults that happen to them.
#[derive(Debug)]
pub struct Scene {
    pub(crate) journal: Journal,
    places: Vec<Arc<Mutex<Place>>>,
}

impl Scene {
    /// Starts a process in each place.
    pub(crate) async fn start(settings: &Settings, stage: &dyn Stage) -> Self {
        let journal = Journal::create(&settings.dir, "faults");
        let mut places = Vec::new();
        for (role, count) in ROLES {
            for number in 0..count {
                let name = format!("{role}_{number}");
                let url = stage.url(&name).await;
                places.push(Place::new(name, url, settings.clone(), journal.clone()));
            }
        }
        for place in &mut places {
            place.start().await;
        }
        let places = places.into_iter().map(|place| Arc::new(Mutex::new(place)));
        Self {
            journal,
            places: places.collect(),
        }
    }

    /// The places of the processes. One that is locked has a fault.
    pub fn places(&self) -> &[Arc<Mutex<Place>>] {
        &self.places
    }

    /// Records that a fault lasts as long as this future. It concerns a process or a place by name, or `all`.
    pub async fn during<T>(&self, fault: Fault, whom: &str, broken: impl Future<Output = T>) -> T {
        let name = fault.name;
        self.journal.note(format!("begin {name} {whom}")).await;
        let result = broken.await;
        self.journal.note(format!("end {name} {whom}")).await;
        result
    }

    /// Records that a fault did not happen as it should. The run fails.
    pub async fn problem(&self, what: &str) {
        let what = what.replace(' ', "_");
        self.journal.note(format!("problem {what}")).await;
    }

    /// Requests the processes of a role to end in order, and waits for them. Returns the processes that did not.
    pub(crate) async fn end(&self, role: &str) -> Vec<String> {
        let mut failed = Vec::new();
        for place in &self.places {
            let mut place = place.lock().await;
            if place.name().starts_with(role) {
                place.request_end();
            }
        }
        for place in &self.places {
            let mut place = place.lock().await;
            if place.name().starts_with(role) && !place.has_ended(ENDED_IN).await {
                failed.push(place.who());
                place.kill().await;
            }
        }
        failed
    }
}
