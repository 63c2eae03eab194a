//! Documents.

use asynqueue_core::{
    broker::{
        BrokerError, Document, DocumentSwap, DueDocuments, Expect, Put, Space, Swapped, Version,
    },
    task::Name,
};
use bytes::Bytes;
use tokio_postgres::Row;

use super::{PostgresBroker, lease::place_of};
use crate::sql::{
    Call, Value,
    values::{any, int, shorts, text, texts, time, timestamp},
};

const NAMED: &str = "select u.ord::integer, d.bytes, d.due, d.version, d.name from unnest($2) with ordinality u(name, ord) \
     join asynqueue.document d on d.space = $1 and d.name = u.name";

const ALL: &str =
    "select 1, bytes, due, version, name from asynqueue.document where space = $1 order by name";

/// One document more than the limit has.
const DUE: &str = "select 1, d.bytes, d.due, d.version, d.name, n.now, d.due <= n.now from (select asynqueue.now_at($3) as now) n \
     left join lateral (select * from asynqueue.document where space = $1 and due is not null order by due, name limit $2) d \
     on true order by d.due, d.name";

const SWAP: &str = "select n, is_done, bytes, due, version from asynqueue.swap($1, $2, $3, $4, $5, $6, $7, $8, $9)";

impl PostgresBroker {
    pub(super) async fn documents_named(
        &self,
        space: Space,
        names: &[Name],
    ) -> Result<Vec<Option<Document>>, BrokerError> {
        let call = Call::new(NAMED, [text(space.as_str()), texts(names)]);
        let mut found = vec![None; names.len()];
        for row in &self.link().call(&call).await? {
            if let Some(one) = found.get_mut(place_of(row)?) {
                *one = Some(document(row, 1));
            }
        }
        Ok(found)
    }

    pub(super) async fn documents_of(
        &self,
        space: Space,
    ) -> Result<Vec<(Name, Document)>, BrokerError> {
        let call = Call::new(ALL, [text(space.as_str())]);
        let rows = self.link().call(&call).await?;
        let named = |row: &Row| (Name::from(row.get::<_, String>(4)), document(row, 1));
        Ok(rows.iter().map(named).collect())
    }

    pub(super) async fn swap_documents(
        &self,
        sets: Vec<Vec<DocumentSwap>>,
    ) -> Result<Vec<Swapped>, BrokerError> {
        self.link().open_or_closed()?;
        let mut swapped = Vec::with_capacity(sets.len());
        for set in sets {
            let lane = self.link().changes.next();
            let rows = self.link().call_in(lane, swap(&set)).await?;
            let mut result = Swapped::default();
            let mut found = vec![None; set.len()];
            for row in &rows {
                match row.get::<_, i32>(0) {
                    0 => result.is_done = row.get(1),
                    _ => {
                        if let Some(one) = found.get_mut(place_of(row)?) {
                            *one = Some(document(row, 2));
                        }
                    }
                }
            }
            let kept = set
                .iter()
                .zip(found)
                .filter(|(change, _)| change.put == Put::Keep);
            result.kept = kept.map(|(_, document)| document).collect();
            swapped.push(result);
        }
        Ok(swapped)
    }

    pub(super) async fn due_documents(
        &self,
        space: Space,
        limit: usize,
    ) -> Result<DueDocuments, BrokerError> {
        let values = [
            text(space.as_str()),
            int(limit.saturating_add(1)),
            self.link().fixed(),
        ];
        let rows = self.link().call(&Call::new(DUE, values)).await?;
        let mut due = DueDocuments::default();
        for row in &rows {
            due.now = timestamp(row.get(5));
            let Some(name) = row.get::<_, Option<String>>(4) else {
                continue;
            };
            let (is_due, document): (bool, Document) = (row.get(6), document(row, 1));
            if !is_due || due.documents.len() == limit {
                due.next_due = document.due;
                break;
            }
            due.documents.push((Name::from(name), document));
        }
        Ok(due)
    }
}

/// From three columns.
fn document(row: &Row, first: usize) -> Document {
    Document {
        bytes: Bytes::from(row.get::<_, Vec<u8>>(first)),
        due: row.get::<_, Option<i64>>(first + 1).map(timestamp),
        version: Version(row.get::<_, i64>(first + 2) as u64),
    }
}

fn swap(set: &[DocumentSwap]) -> Call {
    let expect = |change: &DocumentSwap| match change.expect {
        Expect::Any => None,
        Expect::Absent => Some(0),
        Expect::Version(version) => Some(version.0 as i64),
    };
    let put = |change: &DocumentSwap| match &change.put {
        Put::Keep => (0, None, None),
        Put::Set(bytes, due) => (1, Some(bytes.to_vec()), due.map(time)),
        Put::Remove => (2, None, None),
    };
    let puts: Vec<_> = set.iter().map(put).collect();
    Call::new(
        SWAP,
        [
            texts(set.iter().map(|change| change.space.as_str())),
            texts(set.iter().map(|change| &change.name)),
            Value::Longs(any(set.iter().map(expect).collect())),
            shorts(puts.iter().map(|(kind, ..)| *kind)),
            Value::Blobs(any(puts
                .iter()
                .map(|(_, bytes, _)| bytes.clone())
                .collect())),
            Value::Longs(any(puts.iter().map(|(.., due)| *due).collect())),
        ],
    )
}
