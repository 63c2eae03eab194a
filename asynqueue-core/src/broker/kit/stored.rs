//! Tasks as databases store them: the envelope as it was enqueued, and what workers have changed since beside it.

use std::{hash::Hasher, sync::Arc};

use bytes::Bytes;
use siphasher::sip::SipHasher13;

use crate::{
    broker::Version,
    codec::CodecName,
    task::{
        Envelope, EnvelopeChanges, Failure, FailureKind, Name, TaskId, TaskState, Timestamp,
        WireError,
    },
};

/// An envelope as it is stored, to be decoded outside the threads of the database.
#[derive(Debug)]
pub struct Stored {
    /// The task.
    pub id: TaskId,
    /// The bytes of [`Envelope::to_bytes`].
    pub envelope: Vec<u8>,
    /// What workers have changed since, as bytes of [`EnvelopeChanges::to_bytes`].
    pub changes: Option<Vec<u8>>,
}

/// A decoded envelope.
#[derive(Debug)]
pub enum Read {
    /// The envelope with its changes.
    Whole(Arc<Envelope>),
    /// The substitute for an envelope that cannot be read.
    Unreadable(Arc<Envelope>),
}

impl Read {
    /// The envelope, or its substitute.
    pub fn either(self) -> Arc<Envelope> {
        match self {
            Self::Whole(envelope) | Self::Unreadable(envelope) => envelope,
        }
    }
}

impl Stored {
    /// Decodes the envelope of a task in this queue.
    pub fn read(self, queue: &Name) -> Read {
        match self.decode(queue) {
            Ok(envelope) => Read::Whole(Arc::new(envelope)),
            Err(error) => {
                let (codec, bytes) = (CodecName::unreadable(), Bytes::from(self.envelope));
                let mut envelope = Envelope::new(self.id, "unreadable", codec, bytes);
                envelope.queue = queue.clone();
                let kind = FailureKind::Decode;
                let failure = Failure::new(1, Timestamp::default(), kind, error.to_string());
                envelope.push_failure(failure);
                Read::Unreadable(Arc::new(envelope))
            }
        }
    }

    fn decode(&self, queue: &Name) -> Result<Envelope, WireError> {
        let mut envelope = Envelope::from_bytes(queue.clone(), self.id.clone(), &self.envelope)?;
        if let Some(changes) = &self.changes {
            envelope.apply(EnvelopeChanges::from_bytes(changes)?);
        }
        Ok(envelope)
    }

    /// Identifies this state of a task and its envelope.
    pub fn version(&self, state: TaskState) -> Version {
        // The keys never change: versions outlive processes.
        let mut hasher = SipHasher13::new_with_keys(0x6173_796e, 0x7175_6575);
        hasher.write(state.as_str().as_bytes());
        hasher.write(&self.envelope);
        hasher.write_u8(0);
        hasher.write(self.changes.as_deref().unwrap_or_default());
        Version(hasher.finish())
    }
}
