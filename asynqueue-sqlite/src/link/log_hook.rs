//! Reports the length of the write-ahead log at each commit, with every version of rusqlite that this crate accepts.
//!
//! The hook receives `&Wal` up to rusqlite 0.40, and `&mut Wal` from 0.41 on. A method of `Connection` takes precedence
//! over one of a trait for the same receiver. So of the two calls below, one is that of rusqlite and one does nothing.

use std::{cell::Cell, ffi::c_int};

use rusqlite::{Connection, Result, hooks::Wal};

thread_local! {
    /// The pages of the log after the last commit of this thread.
    static PAGES: Cell<i64> = const { Cell::new(0) };
}

/// The pages of the log after the last commit of this thread.
pub(super) fn pages() -> i64 {
    PAGES.get()
}

/// Counts the pages of the log from now on.
pub(super) fn attach(db: &mut Connection) {
    let shared: &Connection = db;
    shared.wal_hook(Some(|_, pages| note(pages)));
    let hook: fn(&mut Wal, c_int) -> Result<()> = |_, pages| note(pages);
    // An error in later versions of rusqlite, which is none here: there is one hook.
    let _ = db.wal_hook(Some(hook));
}

fn note(pages: c_int) -> Result<()> {
    PAGES.set(pages.into());
    Ok(())
}

/// Stands for `Connection::wal_hook` of rusqlite 0.39 and 0.40 in later versions.
#[allow(dead_code, reason = "rusqlite 0.39 and 0.40 have the method")]
trait Shared {
    fn wal_hook(&self, _: Option<fn(&Wal, c_int) -> Result<()>>) {}
}

/// Stands for `Connection::wal_hook` of rusqlite 0.41 and later in earlier versions.
#[allow(dead_code, reason = "rusqlite 0.41 and later have the method")]
trait Exclusive {
    fn wal_hook(&mut self, _: Option<fn(&mut Wal, c_int) -> Result<()>>) -> Result<()> {
        Ok(())
    }
}

impl Shared for Connection {}

impl Exclusive for Connection {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_reports_the_pages_of_the_log() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut db = Connection::open(folder.path().join("t.db")).expect("a file");
        db.pragma_update(None, "journal_mode", "wal")
            .expect("a log");
        attach(&mut db);
        assert_eq!(pages(), 0);
        db.execute_batch("create table t (n)").expect("a table");
        let first = pages();
        assert!(first > 0);
        db.execute_batch("insert into t values (1)").expect("a row");
        assert!(pages() > first);
    }
}
