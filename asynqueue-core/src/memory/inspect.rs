//! Looking into queues.

use async_trait::async_trait;

use super::{
    MemoryBroker,
    queue::Queue,
    table::{Place, Record},
};
use crate::{
    broker::{
        BrokerError, Cursor, HourStats, Inspect, Node, NodeRole, Page, QueueStats, TaskInfo,
        TaskPage,
    },
    task::{Envelope, Name, TaskId, TaskRef, TaskState, Timestamp},
};

#[async_trait]
impl Inspect for MemoryBroker {
    async fn queues(&self) -> Result<Vec<Name>, BrokerError> {
        self.open()?;
        let queues = self.0.queues.read();
        Ok(queues
            .iter()
            .filter(|(_, queue)| queue.lock().was_used)
            .map(|(name, _)| name.clone())
            .collect())
    }

    async fn stats(&self, queues: &[Name]) -> Result<Vec<QueueStats>, BrokerError> {
        self.open()?;
        let now = self.clock_now();
        let stats = |name| {
            self.known(name)
                .map_or_else(QueueStats::default, |queue| queue.lock().stats(now))
        };
        Ok(queues.iter().map(stats).collect())
    }

    async fn history(
        &self,
        queues: &[Name],
        since: Timestamp,
    ) -> Result<Vec<Vec<HourStats>>, BrokerError> {
        self.open()?;
        let kept = self.clock_now().as_millis() / HourStats::MILLIS;
        let oldest = kept
            .saturating_sub(HourStats::KEPT)
            .max(since.as_millis() / HourStats::MILLIS);
        let history = |name| match self.known(name) {
            None => Vec::new(),
            Some(queue) => {
                let queue = queue.lock();
                queue.hours.range(oldest..).map(|(_, hour)| *hour).collect()
            }
        };
        Ok(queues.iter().map(history).collect())
    }

    async fn memory(&self, queues: &[Name]) -> Result<Vec<Option<u64>>, BrokerError> {
        self.open()?;
        let memory = |name| {
            let queue = self.known(name);
            Some(queue.map_or(0, |queue| queue.lock().memory()))
        };
        Ok(queues.iter().map(memory).collect())
    }

    async fn nodes(&self) -> Result<Vec<Node>, BrokerError> {
        self.open()?;
        let names: Vec<_> = self.0.queues.read().keys().cloned().collect();
        let memory = self.memory(&names).await?;
        Ok(vec![Node {
            address: format!("process {}", std::process::id()),
            role: NodeRole::Primary,
            slots: Vec::new(),
            version: concat!("in memory ", env!("CARGO_PKG_VERSION")).into(),
            memory: Some(memory.into_iter().flatten().sum()),
            info: Vec::new(),
        }])
    }

    fn slot(&self, _: &Name) -> Option<u16> {
        None
    }

    async fn tasks(&self, tasks: &[TaskRef]) -> Result<Vec<Option<TaskInfo>>, BrokerError> {
        self.open()?;
        let now = self.now_and_steady();
        let info = |task: &TaskRef| {
            let info = self.known(&task.queue)?.lock().tasks.get(&task.id)?.info();
            Some(now.shown(info))
        };
        Ok(tasks.iter().map(info).collect())
    }

    async fn list(
        &self,
        queue: &Name,
        state: TaskState,
        page: Page,
    ) -> Result<TaskPage, BrokerError> {
        self.open()?;
        let now = self.now_and_steady();
        let mut listed = self
            .known(queue)
            .map_or_else(TaskPage::default, |queue| queue.lock().list(state, &page));
        let shown = listed.tasks.into_iter().map(|info| now.shown(info));
        listed.tasks = shown.collect();
        Ok(listed)
    }
}

impl Queue {
    fn stats(&self, now: Timestamp) -> QueueStats {
        let counts = [
            (TaskState::Scheduled, self.scheduled.len()),
            (TaskState::Pending, self.pending.len()),
            (TaskState::Active, self.active.len()),
            (TaskState::Retry, self.retry.len()),
            (TaskState::Completed, self.completed.len()),
            (TaskState::Archived, self.archived.len()),
            (TaskState::Aggregating, self.groups.len()),
        ];
        let next = self
            .pending
            .first()
            .and_then(|task| self.tasks.get(&task.id));
        let waiting_since = next.and_then(|record| match record.place {
            Place::Pending(since) => Some(since),
            _ => None,
        });
        QueueStats {
            counts: counts
                .into_iter()
                .filter(|(_, n)| *n > 0)
                .map(|(state, n)| (state, n as u64))
                .collect(),
            succeeded: self.succeeded,
            failed: self.failed,
            latency: waiting_since.map_or_else(Default::default, |since| now.since(since)),
            paused: self.paused,
            repaired: 0,
            archive: self.archive,
        }
    }

    /// What the tasks take, as far as some of them tell for all.
    fn memory(&self) -> u64 {
        const SAMPLE: usize = 1_000;
        let size = |record: &Record| {
            let headers = record.envelope.headers.iter();
            let headers: usize = headers.map(|(key, value)| key.len() + value.len()).sum();
            let own = size_of::<Record>() + size_of::<Envelope>() + 2 * size_of::<usize>();
            own + record.envelope.payload.len() + record.envelope.id.as_str().len() + headers
        };
        let sampled = self.tasks.len().min(SAMPLE);
        let bytes: usize = self.tasks.iter().take(SAMPLE).map(size).sum();
        (bytes as u64 * self.tasks.len() as u64)
            .checked_div(sampled as u64)
            .unwrap_or(0)
    }

    fn list(&self, state: TaskState, page: &Page) -> TaskPage {
        let after = page.after.as_ref().map(|cursor| cursor.0.as_str());
        match state {
            TaskState::Pending => {
                let skipped = after.and_then(|place| place.parse().ok()).unwrap_or(0);
                let tasks = self.pending.iter().enumerate().skip(skipped);
                self.page(
                    page.limit,
                    tasks.map(|(i, task)| (&task.id, (i + 1).to_string())),
                )
            }
            TaskState::Scheduled => self.page_of(page.limit, self.scheduled.from(after, false)),
            TaskState::Retry => self.page_of(page.limit, self.retry.from(after, false)),
            TaskState::Active => self.page_of(page.limit, self.active.from(after, false)),
            TaskState::Completed => self.page_of(page.limit, self.completed.from(after, true)),
            TaskState::Archived => self.page_of(page.limit, self.archived.from(after, true)),
            TaskState::Aggregating => {
                let skipped = after.and_then(|place| place.parse().ok()).unwrap_or(0);
                let tasks = self.groups.iter().enumerate().skip(skipped);
                self.page(page.limit, tasks.map(|(i, id)| (id, (i + 1).to_string())))
            }
            TaskState::Other => TaskPage::default(),
        }
    }

    fn page_of<'a>(
        &self,
        limit: usize,
        places: impl Iterator<Item = &'a (Timestamp, TaskId)>,
    ) -> TaskPage {
        self.page(
            limit,
            places.map(|(at, id)| (id, format!("{}:{id}", at.as_millis()))),
        )
    }

    /// A page of tasks, each given with the cursor to go on after it.
    fn page<'a>(&self, limit: usize, ids: impl Iterator<Item = (&'a TaskId, String)>) -> TaskPage {
        let mut ids = ids.peekable();
        let mut page = TaskPage::default();
        while let Some((id, cursor)) = ids.next_if(|_| page.tasks.len() < limit) {
            page.tasks
                .extend(self.tasks.get(id).map(|record| record.info()));
            page.next = Some(Cursor(cursor));
        }
        if ids.peek().is_none() {
            page.next = None;
        }
        page
    }
}
