//! What another process does: it calls the store as the parent requests.

use asynqueue_core::{
    broker::{Leased, Outcome, Signals, Store, all_of},
    process::Progress,
    task::Name,
};
use bytes::Bytes;
use futures_util::StreamExt;

use crate::{calls, child};

/// In another process: calls the store as the parent requests, until that closes the pipe.
pub async fn serve(store: impl Store) {
    let mut caller = Caller {
        store,
        leased: None,
        signals: None,
    };
    child::respond("ready");
    for request in child::requests() {
        let (call, task) = request.split_once(' ').unwrap_or((&request, ""));
        child::respond(&caller.call(call, task).await);
    }
    Store::close(&caller.store).await;
}

struct Caller<S> {
    store: S,
    leased: Option<Leased>,
    signals: Option<Signals>,
}

impl<S: Store> Caller<S> {
    async fn call(&mut self, call: &str, task: &str) -> String {
        let store = &self.store;
        match call {
            "enqueue" => format!("{:?}", calls::enqueue(store, task).await),
            "listen" => {
                let queues = ["q".into()];
                self.signals = Some(Store::signals(store, &queues).await.expect("signals"));
                "listening".to_owned()
            }
            "hear" => {
                let signals = self.signals.as_mut().expect("it listens");
                format!("{:?}", signals.next().await.expect("a signal"))
            }
            "lease" => {
                self.leased = calls::lease(store, 1).await.expect("a lease").pop();
                calls::names(self.leased.as_slice()).concat()
            }
            "delete" => {
                let deleted = Store::delete_queue(store, &Name::from(task), true).await;
                format!("{deleted:?}")
            }
            call => self.call_under_lease(call, task).await,
        }
    }

    async fn call_under_lease(&self, call: &str, task: &str) -> String {
        let store = &self.store;
        let held = self.leased.as_ref().expect("a lease");
        let outcome = match call {
            "extend" => {
                let extended = Store::extend(store, &[held.lease()], calls::LIMIT).await;
                return format!("{:?}", all_of(extended).expect("results")[0]);
            }
            "report" => {
                let report = vec![(held.lease(), Progress::new(3, 7, "sending"))];
                return format!("{:?}", Store::report(store, report).await);
            }
            "complete" => Outcome::Complete {
                result: (!task.is_empty()).then(|| Bytes::from(task.to_owned())),
            },
            "archive" => Outcome::Archive,
            "drop" => Outcome::Drop,
            call => panic!("unknown call {call}"),
        };
        let settled = calls::settle(store, held, outcome).await;
        format!("{:?}", settled.expect("a result"))
    }
}
