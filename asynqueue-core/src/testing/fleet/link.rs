//! A node's connection to the store of its fleet. All faults of calls happen here.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{
    FutureExt, StreamExt,
    future::{BoxFuture, ready},
};
use tokio::{sync::oneshot, time::sleep};

use super::{
    Fault,
    journal::Event,
    ledger::Ledger,
    network::{Network, Way},
};
use crate::{
    broker::{
        Aggregation, BrokerError, Conflict, Document, DocumentSwap, DueDocuments, DueGroups, Each,
        Edit, Edited, Extended, Finished, Forwarded, Group, GroupInfo, HourStats, Keep, Lease,
        LeaseRequest, Leased, NewTask, Node, Page, QueueStats, SetApart, Settled, Settlement,
        Signals, Space, Store, Swapped, TaskInfo, TaskPage, Trimmed,
    },
    process::Progress,
    task::{Name, TaskRef, TaskState, Timestamp},
};

/// The effect of a call at the store.
type Effect<T> =
    Arc<dyn Fn(Arc<Ledger>) -> BoxFuture<'static, Result<T, BrokerError>> + Send + Sync>;

#[derive(Clone, Debug)]
pub(super) struct Link {
    node: usize,
    ledger: Arc<Ledger>,
    network: Network,
    /// The error of the node's copy of the store's time, in milliseconds.
    error: Arc<AtomicI64>,
}

impl Link {
    pub(super) fn new(
        node: usize,
        ledger: Ledger,
        network: Network,
        error: Arc<AtomicI64>,
    ) -> Self {
        Self {
            node,
            ledger: Arc::new(ledger),
            network,
            error,
        }
    }

    /// Makes a call. Once it is sent, its outcome no longer depends on the node.
    async fn call<T, F>(
        &self,
        method: &'static str,
        effect: impl Fn(Arc<Ledger>) -> F + Send + Sync + 'static,
    ) -> Result<T, BrokerError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, BrokerError>> + Send + 'static,
    {
        let fate = self.network.fate(self.node, method);
        if let Some(name) = fate.way.name() {
            let event = Event::Struck(method, name);
            self.ledger.note(event);
        }
        let effect: Effect<T> = Arc::new(move |ledger| effect(ledger).boxed());
        let (answer, answered) = oneshot::channel();
        let ledger = Arc::clone(&self.ledger);
        tokio::spawn(async move {
            sleep(fate.there).await;
            let lost = || Err(BrokerError::unavailable("simulated: no response"));
            let found = match fate.way {
                Way::Plain => effect(ledger).await,
                Way::Lost(wait, error) => {
                    sleep(wait).await;
                    Err(error)
                }
                Way::Unanswered(wait) => {
                    let _ = effect(ledger).await;
                    sleep(wait).await;
                    lost()
                }
                Way::Late(wait, late) => {
                    tokio::spawn(async move {
                        sleep(wait + late).await;
                        let _ = effect(ledger).await;
                    });
                    sleep(wait).await;
                    lost()
                }
                Way::Twice(again) => {
                    let found = effect(Arc::clone(&ledger)).await;
                    tokio::spawn(async move {
                        sleep(again).await;
                        let _ = effect(ledger).await;
                    });
                    found
                }
            };
            sleep(fate.back).await;
            // The caller may be dead.
            let _ = answer.send(found);
        });
        answered
            .await
            .unwrap_or_else(|_| Err(BrokerError::unavailable("simulated: the fleet has ended")))
    }

    /// Makes a call about items that each belong to a queue. Items of sick queues get an error; the others get a
    /// result.
    async fn call_each<I, T, F>(
        &self,
        method: &'static str,
        items: Vec<I>,
        queue_of: impl Fn(&I) -> &Name,
        effect: impl Fn(Arc<Ledger>, Vec<I>) -> F + Send + Sync + 'static,
    ) -> Result<Each<T>, BrokerError>
    where
        I: Clone + Send + Sync + 'static,
        T: Send + 'static,
        F: Future<Output = Result<Each<T>, BrokerError>> + Send + 'static,
    {
        let sick: Vec<_> = items
            .iter()
            .map(|item| self.network.sickness(queue_of(item)))
            .collect();
        let well = items.into_iter().zip(&sick);
        let well: Vec<_> = well
            .filter(|(_, error)| error.is_none())
            .map(|(item, _)| item)
            .collect();
        let answers = self
            .call(method, move |ledger| effect(ledger, well.clone()))
            .await?;
        let mut answers = answers.into_iter();
        let short = || Err(BrokerError::protocol("simulated: fewer results than items"));
        let each = sick.into_iter().map(|error| match error {
            Some(error) => Err(error),
            None => answers.next().unwrap_or_else(short),
        });
        Ok(each.collect())
    }

    /// Fails if a queue is sick, because the call is about all of its items together.
    fn reach<'a>(&self, queues: impl IntoIterator<Item = &'a Name>) -> Result<(), BrokerError> {
        if !self.network.has_sick() {
            return Ok(());
        }
        let queues: HashSet<_> = queues.into_iter().collect();
        let mut sick = queues
            .into_iter()
            .filter_map(|queue| self.network.sickness(queue));
        sick.next().map_or(Ok(()), Err)
    }
}

/// Makes a call with borrowed and owned arguments. Each effect of the call has its own copies.
macro_rules! call {
    ($link:ident.$method:ident($(&$lent:ident),*; $($given:ident),*)) => {{
        $(let $lent = $lent.to_owned();)*
        $link.call(stringify!($method), move |ledger| {
            $(let $lent = $lent.clone();)*
            $(let $given = $given.clone();)*
            async move { ledger.$method($(&$lent,)* $($given),*).await }
        }).await
    }};
}

/// Makes a call about items that each belong to a queue.
macro_rules! call_each {
    ($link:ident.$method:ident($items:ident; $($given:ident),*), $queue_of:expr) => {{
        let effect = move |ledger: Arc<Ledger>, items: Vec<_>| async move {
            ledger.$method(&items, $($given),*).await
        };
        $link.call_each(stringify!($method), $items.to_vec(), $queue_of, effect).await
    }};
}

#[async_trait]
impl Store for Link {
    fn inner(&self) -> Option<&dyn Store> {
        Some(&*self.ledger)
    }

    fn now(&self) -> Timestamp {
        let error = self.error.load(SeqCst);
        let now = self.ledger.now().as_millis();
        Timestamp::from_millis(now.saturating_add_signed(error))
    }

    async fn enqueue(&self, tasks: Vec<NewTask>) -> Result<Vec<Result<(), Conflict>>, BrokerError> {
        self.reach(tasks.iter().map(|task| &task.envelope.queue))?;
        call!(self.enqueue(; tasks))
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<Each<Vec<Leased>>, BrokerError> {
        let request = request.clone();
        let queues = request.queues.clone();
        let effect = move |ledger: Arc<Ledger>, queues| {
            let mut request = request.clone();
            request.queues = queues;
            async move { ledger.lease(&request).await }
        };
        self.call_each("lease", queues, |(queue, _)| queue, effect)
            .await
    }

    async fn extend(
        &self,
        leases: &[Lease],
        lease: Duration,
    ) -> Result<Each<Extended>, BrokerError> {
        call_each!(self.extend(leases; lease), |one| &one.task.queue)
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Each<Settled>, BrokerError> {
        call_each!(self.settle(settlements;), |one| &one.envelope.queue)
    }

    async fn forward(&self, queues: &[Name], limit: usize) -> Result<Each<Forwarded>, BrokerError> {
        call_each!(self.forward(queues; limit), |queue| queue)
    }

    async fn expired(
        &self,
        queues: &[Name],
        by: Timestamp,
        limit: usize,
    ) -> Result<Each<Vec<Leased>>, BrokerError> {
        call_each!(self.expired(queues; by, limit), |queue| queue)
    }

    async fn trim(
        &self,
        queues: &[Name],
        keep: Keep,
        limit: usize,
    ) -> Result<Each<Trimmed>, BrokerError> {
        call_each!(self.trim(queues; keep, limit), |queue| queue)
    }

    async fn queues(&self) -> Result<Vec<Name>, BrokerError> {
        call!(self.queues(;))
    }

    async fn stats(&self, queues: &[Name]) -> Result<Vec<QueueStats>, BrokerError> {
        self.reach(queues)?;
        call!(self.stats(&queues;))
    }

    async fn tasks(&self, tasks: &[TaskRef]) -> Result<Vec<Option<TaskInfo>>, BrokerError> {
        self.reach(tasks.iter().map(|task| &task.queue))?;
        call!(self.tasks(&tasks;))
    }

    async fn list(
        &self,
        queue: &Name,
        state: TaskState,
        page: Page,
    ) -> Result<TaskPage, BrokerError> {
        self.reach([queue])?;
        call!(self.list(&queue; state, page))
    }

    async fn edit(&self, edits: &[Edit]) -> Result<Vec<Edited>, BrokerError> {
        self.reach(edits.iter().map(|edit| &edit.seen.envelope.queue))?;
        call!(self.edit(&edits;))
    }

    async fn set_paused(&self, queues: &[Name], paused: bool) -> Result<(), BrokerError> {
        self.reach(queues)?;
        call!(self.set_paused(&queues; paused))
    }

    async fn delete_queue(&self, queue: &Name, force: bool) -> Result<bool, BrokerError> {
        self.reach([queue])?;
        call!(self.delete_queue(&queue; force))
    }

    async fn document(
        &self,
        space: Space,
        names: &[Name],
    ) -> Result<Vec<Option<Document>>, BrokerError> {
        let names = names.to_vec();
        let effect = move |ledger: Arc<Ledger>| {
            let names = names.clone();
            async move { ledger.document(space, &names).await }
        };
        self.call("document", effect).await
    }

    async fn documents(&self, space: Space) -> Result<Vec<(Name, Document)>, BrokerError> {
        call!(self.documents(; space))
    }

    async fn swap(&self, sets: Vec<Vec<DocumentSwap>>) -> Result<Vec<Swapped>, BrokerError> {
        call!(self.swap(; sets))
    }

    async fn due(&self, space: Space, limit: usize) -> Result<DueDocuments, BrokerError> {
        call!(self.due(; space, limit))
    }

    /// Does nothing: all nodes share the store.
    async fn close(&self) {}

    async fn ping(&self) -> Result<(), BrokerError> {
        call!(self.ping(;))
    }

    async fn forget_ticks(&self, guards: &[(Name, Name)]) -> Result<(), BrokerError> {
        call!(self.forget_ticks(&guards;))
    }

    async fn hand_over(&self, queues: &[Name]) -> Result<(), BrokerError> {
        call!(self.hand_over(&queues;))
    }

    /// A stream that loses signals while the node is deaf, and ends when the store is unavailable.
    async fn signals(&self, queues: &[Name]) -> Result<Signals, BrokerError> {
        self.reach(queues)?;
        let signals = call!(self.signals(&queues;))?;
        let (network, node) = (self.network.clone(), self.node);
        let away = network.clone();
        let heard = signals
            .take_while(move |_| ready(!away.has(Fault::Away, node)))
            .filter(move |_| ready(!network.has(Fault::Deaf, node)));
        Ok(heard.boxed())
    }

    async fn pass_on(&self, queue: &Name) -> Result<(), BrokerError> {
        call!(self.pass_on(&queue;))
    }

    /// Waits at the store itself: a wait is not a call that could still be in flight when its caller is gone.
    async fn finished(&self, task: &TaskRef) -> Result<Finished, BrokerError> {
        self.reach([&task.queue])?;
        call!(self.ping(;))?;
        self.ledger.finished(task).await
    }

    async fn report(&self, progress: Vec<(Lease, Progress)>) -> Result<(), BrokerError> {
        call!(self.report(; progress))
    }

    async fn history(
        &self,
        queues: &[Name],
        since: Timestamp,
    ) -> Result<Vec<Vec<HourStats>>, BrokerError> {
        self.reach(queues)?;
        call!(self.history(&queues; since))
    }

    async fn memory(&self, queues: &[Name]) -> Result<Vec<Option<u64>>, BrokerError> {
        self.reach(queues)?;
        call!(self.memory(&queues;))
    }

    async fn nodes(&self) -> Result<Vec<Node>, BrokerError> {
        call!(self.nodes(;))
    }

    async fn due_groups(
        &self,
        queues: &[Name],
        events: &[Name],
        limit: usize,
    ) -> Result<DueGroups, BrokerError> {
        self.reach(queues)?;
        call!(self.due_groups(&queues, &events; limit))
    }

    async fn groups(&self, queue: &Name, limit: usize) -> Result<Vec<GroupInfo>, BrokerError> {
        self.reach([queue])?;
        call!(self.groups(&queue; limit))
    }

    async fn aggregate(
        &self,
        aggregation: Aggregation,
    ) -> Result<Result<bool, Conflict>, BrokerError> {
        self.reach([&aggregation.group.queue])?;
        call!(self.aggregate(; aggregation))
    }

    async fn set_apart(&self, members: SetApart) -> Result<usize, BrokerError> {
        self.reach([&members.group.queue])?;
        call!(self.set_apart(; members))
    }

    async fn postpone(&self, group: &Group, delay: Duration) -> Result<(), BrokerError> {
        self.reach([&group.queue])?;
        call!(self.postpone(&group; delay))
    }
}
