//! The plans of all statements: none reads all rows of a table, or of a queue, that may be many.
//!
//! The statements are read from the sources, so that a new one is covered when it is written.

use std::{collections::BTreeSet, fs, path::Path};

use rusqlite::Connection;

/// Statements that read more rows than they need, and why they may.
const ACCEPTED: &[(&str, &str)] = &[
    ("asynqueue_meta", "it has one row"),
    ("select exists(select 1 from asynqueue_", "it reads one row"),
    (
        "delete from asynqueue_end where queue = ?1 and at",
        "a row lives for a minute, and only if its end is awaited",
    ),
    (
        "delete from asynqueue_waiter where queue = ?1 and at",
        "there are as many rows as callers that wait",
    ),
    (
        "delete from asynqueue_settled where at",
        "a row lives until its server reports the outcome",
    ),
    (
        "l.until <= ?2 order by l.until",
        "there are as many leases as tasks that run",
    ),
    (
        "(q.until, q.id) > (?2, ?3)",
        "there are as many leases as tasks that run",
    ),
    (
        "(q.until, q.id) < (?2, ?3)",
        "there are as many leases as tasks that run",
    ),
    (
        "from asynqueue_group where queue = ?1 order by due",
        "it ends at the first group that is not due",
    ),
    ("asynqueue_outbox_meta", "it has one row"),
    (
        "from asynqueue_outbox where failure is null order by place limit 1",
        "it ends at the first entry that waits",
    ),
    (
        "select count(*) from asynqueue_outbox where failure is null",
        "a relay counts its entries every five seconds",
    ),
    (
        "asynqueue_outbox where failure is not null",
        "there are few failed entries, and they have an index",
    ),
    (
        "number = 9223372036854775807, at = ?2 where failure is not null",
        "there are few failed entries, and they have an index",
    ),
    (
        "select min(due) from asynqueue_group",
        "it ends at the first group with members",
    ),
];

/// The string literals of Rust code.
fn literals(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            literals(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("plans.rs") {
            let source = fs::read_to_string(&path).expect("a source");
            let is_code = |line: &&str| !line.trim_start().starts_with("//");
            let code: Vec<_> = source.lines().filter(is_code).collect();
            // A literal ends at a quote, and continues after the spaces that follow a backslash.
            let code = code.join("\n");
            let texts = code.split('"').skip(1).step_by(2);
            found.extend(texts.map(|text| {
                let lines = text.split("\\\n").enumerate();
                let trimmed = lines.map(|(n, line)| if n == 0 { line } else { line.trim_start() });
                trimmed.collect::<String>()
            }));
        }
    }
}

/// The statements of this crate that use its tables.
fn statements() -> BTreeSet<String> {
    let mut literals_found = Vec::new();
    literals(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut literals_found,
    );
    let find = |part: &str| {
        let mut found = literals_found.iter().filter(|text| text.ends_with(' '));
        found
            .find(|text| text.starts_with(part))
            .expect(part)
            .as_str()
    };
    // `whole!` puts the same columns and joins around several statements.
    let (columns, joins) = (find("select t.id"), find(" left join"));
    let statement = |(place, text): (usize, &String)| match text.split(' ').next() {
        Some("where") => {
            let (more, from) = (&literals_found[place - 2], &literals_found[place - 1]);
            let more = if more.starts_with(',') {
                more.as_str()
            } else {
                ""
            };
            Some(format!("{columns}{more} from {from}{joins}{text}"))
        }
        Some("select" | "insert" | "update" | "delete") if text.contains("asynqueue_") => {
            (!text.ends_with(' ')).then(|| text.clone())
        }
        _ => None,
    };
    literals_found
        .iter()
        .enumerate()
        .filter_map(statement)
        .collect()
}

/// The steps of a statement's plan.
fn plan(db: &Connection, statement: &str) -> Vec<String> {
    let mut plan = db
        .prepare(&format!("explain query plan {statement}"))
        .unwrap_or_else(|error| panic!("{statement}: {error}"));
    let steps = plan.raw_query().mapped(|row| row.get::<_, String>(3));
    steps.map(|step| step.expect("a step")).collect()
}

/// The steps that read all rows of a table or of a queue.
fn long_steps(db: &Connection, statement: &str) -> Vec<String> {
    let steps = plan(db, statement);
    let sorts = steps
        .iter()
        .any(|step| step.contains("TEMP B-TREE FOR ORDER BY"));
    let is_limited = statement.contains("limit") && !sorts;
    let is_long = |step: &String| {
        let table = step.split(' ').nth(1).unwrap_or_default();
        let is_all = step.starts_with("SCAN ") && !table.starts_with('(');
        let is_of_queue = step.ends_with("(queue=?)") || step.contains("ANY(");
        is_all && table != "CONSTANT" || is_of_queue && !is_limited
    };
    steps.into_iter().filter(is_long).collect()
}

fn tables() -> Connection {
    let db = Connection::open_in_memory().expect("a database");
    for schema in [
        include_str!("schema.sql"),
        include_str!("outbox/schema.sql"),
    ] {
        db.execute_batch(schema).expect("tables");
    }
    db
}

#[test]
fn no_statement_reads_many_rows_that_it_does_not_need() {
    let db = tables();
    let statements = statements();
    assert!(statements.len() > 80, "{} statements", statements.len());
    let steps = |statement: &String| (statement.clone(), long_steps(&db, statement));
    let (accepted, long): (Vec<_>, Vec<_>) = statements
        .iter()
        .map(steps)
        .filter(|(_, steps)| !steps.is_empty())
        .partition(|(statement, _)| ACCEPTED.iter().any(|(part, _)| statement.contains(part)));
    assert!(long.is_empty(), "{long:#?}");
    for (part, _) in ACCEPTED {
        let is_needed = accepted
            .iter()
            .any(|(statement, _)| statement.contains(part));
        assert!(is_needed, "no statement needs the exception `{part}`");
    }
}

#[test]
fn each_index_is_used() {
    let db = tables();
    let plans: String = statements()
        .iter()
        .flat_map(|statement| plan(&db, statement))
        .collect();
    for index in [
        "task_at",
        "task_group",
        "lock_until",
        "group_name",
        "group_due",
        "document_due",
        "outbox_waiting",
        "outbox_failed",
    ] {
        assert!(
            plans.contains(&format!("INDEX asynqueue_{index} ")),
            "{index}"
        );
    }
}
