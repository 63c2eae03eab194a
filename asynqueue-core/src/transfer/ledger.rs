//! The records of a move: its id and who is at work, at the source; and that the target takes part in it.
//!
//! A move has begun once the target has its record. So a source with an unfinished move to another store is recognised,
//! and a target that is the source itself too.

use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::sleep;

use super::{
    error::{CLAIM, TransferError},
    side::Side,
};
use crate::{
    ambient,
    broker::{Document, DocumentSwap, Expect, Put, Space},
    task::{Name, Timestamp},
};

/// The name of the record at the source.
const MOVE: Name = Name::from_static("move");

/// How often to look whether the claim of another process has ended.
const LOOK: Duration = Duration::from_millis(100);

/// The record of a move at its source.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    /// The id of the move.
    id: Name,
    stage: Stage,
    /// The process that moves tasks.
    holder: u64,
    /// When its claim ends.
    until: Timestamp,
}

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    /// The target may not have its record yet. Nothing has been moved.
    New,
    /// The target has its record.
    Begun,
    /// Nothing is left to move. The target may still have its record.
    Ended,
}

/// A move that this process has claimed.
#[derive(Debug)]
pub(super) struct Ledger {
    from: Side,
    to: Side,
    /// The id of the move.
    pub(super) id: Name,
    /// Whether an earlier process has begun it.
    pub(super) is_resumed: bool,
    record: Record,
    kept: Document,
}

impl Ledger {
    /// Begins a move, or resumes the one that was not finished.
    pub(super) async fn open(from: Side, to: Side) -> Result<Self, TransferError> {
        loop {
            let mut ledger = Self::claim(from.clone(), to.clone()).await?;
            match ledger.record.stage {
                Stage::Begun => {
                    if to.document(Space::Moves, &ledger.id).await?.is_none() {
                        ledger.release().await?;
                        return Err(TransferError::Unfinished);
                    }
                    ledger.is_resumed = true;
                    return Ok(ledger);
                }
                Stage::New => {
                    ledger.begin().await?;
                    return Ok(ledger);
                }
                Stage::Ended => ledger.remove().await?,
            }
        }
    }

    /// Claims the move of the source. A process that was killed does not renew its claim.
    async fn claim(from: Side, to: Side) -> Result<Self, TransferError> {
        let holder = ambient::random::<u64>();
        let mut other = None;
        loop {
            let kept = from.document(Space::Moves, &MOVE).await?;
            let now = from.now();
            let mut record = match &kept {
                Some(kept) => read(&MOVE, kept)?,
                None => Record {
                    id: format!("{:016x}", ambient::random::<u64>()).into(),
                    stage: Stage::New,
                    holder,
                    until: now,
                },
            };
            if record.holder != holder && record.until > now {
                if other.is_some_and(|until| until != record.until) {
                    return Err(TransferError::Busy);
                }
                other = Some(record.until);
                sleep(LOOK).await;
                continue;
            }
            (record.holder, record.until) = (holder, now + CLAIM);
            let expect = kept
                .as_ref()
                .map_or(Expect::Absent, |kept| Expect::Version(kept.version));
            let put = Put::Set(encode(&record), None);
            from.swap(vec![DocumentSwap::new(Space::Moves, MOVE, expect, put)])
                .await?;
            let Some(kept) = from.document(Space::Moves, &MOVE).await? else {
                continue;
            };
            let record: Record = read(&MOVE, &kept)?;
            if record.holder == holder {
                return Ok(Self {
                    from,
                    to,
                    id: record.id.clone(),
                    is_resumed: false,
                    record,
                    kept,
                });
            }
        }
    }

    /// Writes the record of the target.
    async fn begin(&mut self) -> Result<(), TransferError> {
        let part = Put::Set(encode(&()), None);
        let part = DocumentSwap::new(Space::Moves, &self.id, Expect::Any, part);
        self.to.swap(vec![part]).await?;
        if self.from.document(Space::Moves, &self.id).await?.is_some() {
            self.remove().await?;
            return Err(TransferError::SameStore);
        }
        self.record.stage = Stage::Begun;
        self.write().await
    }

    /// Renews the claim, if most of it has passed.
    ///
    /// # Errors
    ///
    /// When another process has claimed the move since: this one was too slow.
    pub(super) async fn renew(&mut self) -> Result<(), TransferError> {
        if self.record.until.since(self.from.now()) > CLAIM / 2 {
            return Ok(());
        }
        self.confirm().await
    }

    /// Checks that no other process has claimed the move since this one did, and renews the claim.
    ///
    /// # Errors
    ///
    /// When another process has.
    pub(super) async fn confirm(&mut self) -> Result<(), TransferError> {
        self.record.until = self.from.now() + CLAIM;
        self.write().await
    }

    /// Ends the claim, so that another process can resume immediately.
    pub(super) async fn release(&mut self) -> Result<(), TransferError> {
        self.record.until = Timestamp::default();
        self.write().await
    }

    async fn write(&mut self) -> Result<(), TransferError> {
        let put = Put::Set(encode(&self.record), None);
        let expect = Expect::Version(self.kept.version);
        let change = DocumentSwap::new(Space::Moves, MOVE, expect, put);
        // A store that sends a change again finds its own record.
        self.from.swap(vec![change]).await?;
        let kept = self.from.document(Space::Moves, &MOVE).await?;
        let record: Option<Record> = kept.as_ref().map(|kept| read(&MOVE, kept)).transpose()?;
        match (kept, record) {
            (Some(kept), Some(record)) if record.holder == self.record.holder => {
                self.kept = kept;
                Ok(())
            }
            _ => Err(TransferError::Busy),
        }
    }

    /// Removes the records: nothing of the move is left.
    pub(super) async fn finish(mut self) -> Result<(), TransferError> {
        self.record.stage = Stage::Ended;
        self.write().await?;
        self.remove().await
    }

    /// Removes the record of the target, and then that of the source.
    async fn remove(&self) -> Result<(), TransferError> {
        let part = DocumentSwap::new(Space::Moves, &self.id, Expect::Any, Put::Remove);
        self.to.swap(vec![part]).await?;
        let expect = Expect::Version(self.kept.version);
        let end = DocumentSwap::new(Space::Moves, MOVE, expect, Put::Remove);
        self.from.swap(vec![end]).await.map(drop)
    }
}

/// Encodes a record.
pub(super) fn encode(record: &impl Serialize) -> bytes::Bytes {
    let bytes = rmp_serde::to_vec_named(record);
    // Encoding plain data into memory cannot fail.
    debug_assert!(bytes.is_ok(), "{bytes:?}");
    bytes.unwrap_or_default().into()
}

/// Decodes a record.
pub(super) fn read<T: DeserializeOwned>(
    name: &Name,
    document: &Document,
) -> Result<T, TransferError> {
    rmp_serde::from_slice(&document.bytes).map_err(|_| TransferError::Undecodable {
        name: name.to_string(),
    })
}
