//! Documents.

use asynqueue_core::{
    broker::{
        BrokerError, Document, DocumentSwap, DueDocuments, Expect, Put, Space, Swapped, Version,
    },
    task::Name,
};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::SqliteBroker;
use crate::{
    change::Change,
    link::{Need, View},
    sql::{Direct, Fault, millis, ready, timestamp},
};

const ONE: &str =
    "select bytes, due, version from asynqueue_document where space = ?1 and name = ?2";

pub(crate) const DUE: &str = "select bytes, due, version, name from asynqueue_document \
     where space = ?1 and due is not null and due <= ?2 order by due, name limit ?3";

/// When the first document is due of those that were not returned.
pub(crate) const NEXT: &str = "select due from asynqueue_document \
     where space = ?1 and due is not null order by due, name limit 1 offset ?2";

impl SqliteBroker {
    pub(super) async fn documents_named(
        &self,
        space: Space,
        names: &[Name],
    ) -> Result<Vec<Option<Document>>, BrokerError> {
        let names = names.to_vec();
        let read = move |view: &View<'_>| {
            names
                .iter()
                .map(|name| find(view.db, space, name))
                .collect()
        };
        self.link().read(read).await
    }

    pub(super) async fn documents_of(
        &self,
        space: Space,
    ) -> Result<Vec<(Name, Document)>, BrokerError> {
        let read = move |view: &View<'_>| {
            let all = "select bytes, due, version, name from asynqueue_document where space = ?1 order by name";
            named(view.db, all, params![space.as_str()])
        };
        self.link().read(read).await
    }

    pub(super) async fn swap_documents(
        &self,
        sets: Vec<Vec<DocumentSwap>>,
    ) -> Result<Vec<Swapped>, BrokerError> {
        let write = move |change: &mut Change<Direct<'_>>| {
            sets.iter().map(|set| change.swap(set)).collect()
        };
        self.link().write(Need::Own, write).await
    }

    pub(super) async fn due_documents(
        &self,
        space: Space,
        limit: usize,
    ) -> Result<DueDocuments, BrokerError> {
        let read = move |view: &View<'_>| {
            let (now, limit) = (millis(view.now), i64::try_from(limit).unwrap_or(i64::MAX));
            let documents = named(view.db, DUE, params![space.as_str(), now, limit])?;
            let mut next = view.db.prepare_cached(NEXT)?;
            let row = params![space.as_str(), documents.len() as i64];
            let next_due = next.query_row(row, |row| row.get(0)).optional()?;
            Ok(DueDocuments {
                documents,
                next_due: next_due.map(timestamp),
                now: view.now,
            })
        };
        self.link().read(read).await
    }
}

fn document(row: &Row<'_>) -> rusqlite::Result<Document> {
    Ok(Document {
        bytes: Bytes::from(row.get::<_, Vec<u8>>(0)?),
        due: row.get::<_, Option<i64>>(1)?.map(timestamp),
        version: Version(row.get::<_, i64>(2)? as u64),
    })
}

fn find(db: &Connection, space: Space, name: &Name) -> Result<Option<Document>, Fault> {
    let mut one = db.prepare_cached(ONE)?;
    Ok(one
        .query_row(params![space.as_str(), name.as_str()], document)
        .optional()?)
}

fn named(
    db: &Connection,
    sql: &'static str,
    values: impl rusqlite::Params,
) -> Result<Vec<(Name, Document)>, Fault> {
    let mut found = db.prepare_cached(sql)?;
    let named = |row: &Row<'_>| Ok((Name::from(row.get::<_, String>(3)?), document(row)?));
    Ok(found.query_map(values, named)?.collect::<Result<_, _>>()?)
}

impl Change<Direct<'_>> {
    /// Makes all changes of a set, or none.
    fn swap(&mut self, set: &[DocumentSwap]) -> Result<Swapped, Fault> {
        let mut swapped = Swapped {
            is_done: true,
            kept: Vec::new(),
        };
        for change in set {
            let found = find(self.sql.0, change.space, &change.name)?;
            swapped.is_done &= match change.expect {
                Expect::Any => true,
                Expect::Absent => found.is_none(),
                Expect::Version(version) => {
                    found.as_ref().is_some_and(|found| found.version == version)
                }
            };
            if change.put == Put::Keep {
                swapped.kept.push(found);
            }
        }
        if swapped.is_done {
            for change in set {
                self.put(change)?;
            }
        }
        Ok(swapped)
    }

    fn put(&mut self, change: &DocumentSwap) -> Result<(), Fault> {
        let (space, name) = (change.space.as_str(), change.name.as_str());
        match &change.put {
            Put::Keep => {}
            Put::Remove => {
                let remove = "delete from asynqueue_document where space = ?1 and name = ?2";
                self.sql
                    .0
                    .prepare_cached(remove)?
                    .execute(params![space, name])?;
            }
            Put::Set(bytes, due) => {
                let version = ready(self.number())?;
                let row = params![space, name, &bytes[..], due.map(millis), version];
                let set = "insert or replace into asynqueue_document values (?1, ?2, ?3, ?4, ?5)";
                self.sql.0.prepare_cached(set)?.execute(row)?;
            }
        }
        Ok(())
    }
}
