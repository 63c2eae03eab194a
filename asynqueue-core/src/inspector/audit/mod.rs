//! The audit: who changed what and when, kept in the broker for 90 days.

mod applied;
mod deploy;
mod edit;
mod entry;
mod read;
mod record;
mod words;

pub(super) use self::{applied::MAX_EDITS, record::BulkRecord};
pub(crate) use self::{deploy::starts_with, record::record};
pub use self::{
    edit::AuditEdit,
    entry::{AuditBulk, AuditCursor, AuditEntry, AuditTarget, InvalidAuditCursor},
    read::{AuditPage, AuditQuery},
};
