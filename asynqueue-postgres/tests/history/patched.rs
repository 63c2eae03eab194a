//! Functions that are broken in the database: their histories have no order.
//!
//! So the guarantees that PostgreSQL does not give are few enough.

use asynqueue_conformance::history::{self, Plan, Violation};
use asynqueue_test_servers::Postgres;

use super::{PROMISES, handles};

/// A change of the text of a function.
struct Patch {
    what: &'static str,
    function: &'static str,
    /// Texts with their replacements. Each text occurs.
    changes: &'static [(&'static str, &'static str)],
}

const PATCHES: [Patch; 9] = [
    Patch {
        what: "an outcome counts under any token",
        function: "settle",
        changes: &[
            (
                "select u.token from unnest(wanted, tokens) u(turn, token) where u.turn is not null",
                "select x.token from asynqueue_schema.lease x",
            ),
            (
                "returning l.turn, l.token)",
                "returning l.turn, (select u.token from unnest(wanted, tokens) u(turn, token) \
                 where u.turn = l.turn limit 1) as token)",
            ),
        ],
    },
    Patch {
        what: "an outcome for an ended lease ends one that has not ended",
        function: "settle",
        changes: &[("and l.until <= t", "")],
    },
    Patch {
        what: "a task that is released is lost",
        function: "keep",
        changes: &[("where kinds[e.ord] in (5, 6);", "where kinds[e.ord] = 5;")],
    },
    Patch {
        what: "a task that is retried is put first",
        function: "keep",
        changes: &[(
            "when 5 then place + e.ord - 1",
            "when 5 then -(place + e.ord - 1)",
        )],
    },
    Patch {
        what: "the task that came last is leased first",
        function: "lease",
        changes: &[(
            "order by r.rank, r.place limit",
            "order by r.rank, r.place desc limit",
        )],
    },
    Patch {
        what: "a lease that finds all tasks locked returns nothing",
        function: "lease",
        changes: &[
            ("exit when not may_wait;", "exit;"),
            // Locks last longer, so that others meet them more often.
            (
                "if taken > 0 then",
                "perform pg_sleep(0.005); if taken > 0 then",
            ),
        ],
    },
    Patch {
        what: "a task with the id of another is accepted, and lost",
        function: "enqueue",
        changes: &[("where k.turn is distinct from base + k.ord", "where false")],
    },
    Patch {
        what: "a unique lock that is held is taken",
        function: "take_lock",
        changes: &[
            ("key = wanted and until > t;", "key = wanted and false;"),
            ("key = wanted and until <= t;", "key = wanted;"),
        ],
    },
    Patch {
        what: "an extension is reported, and not made",
        function: "extend",
        changes: &[(
            "set until = t + lasts where l.turn = any(turns)",
            "set until = l.until where l.turn = any(turns)",
        )],
    },
];

/// Replaces a function of the schema of this URL.
async fn apply(patch: &Patch, url: &str) {
    let client = Postgres::connect(url).await;
    let read = "select pg_get_functiondef(p.oid), n.nspname from pg_proc p \
                join pg_namespace n on n.oid = p.pronamespace \
                where n.nspname = current_schema() and p.proname = $1";
    let row = client.query_one(read, &[&patch.function]).await;
    let row = row.expect("one function");
    let (mut text, schema): (String, String) = (row.get(0), row.get(1));
    for (from, to) in patch.changes {
        assert!(text.contains(from), "{}: no `{from}`", patch.function);
        text = text.replace(from, &to.replace("asynqueue_schema", &schema));
    }
    client.batch_execute(&text).await.expect("a function");
}

/// The first of this many histories without an order.
async fn first_violation(server: &Postgres, patch: &Patch, histories: u64) -> Option<u64> {
    for seed in 1..=histories {
        let url = server.new_schema();
        let handles = handles(&url).await;
        apply(patch, &url).await;
        let mut plan = Plan::new(seed).promises(PROMISES);
        plan.operations = 100;
        let judged = history::check_store(&handles, &plan, &()).await;
        // An undecided history probably has no order either. The next one is another chance.
        if judged.is_err_and(|violation: Violation| !violation.is_undecided()) {
            return Some(seed);
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flaw_of_a_function_shows_within_a_hundred_histories() {
    let server = Postgres::shared().await;
    for patch in &PATCHES {
        let found = first_violation(&server, patch, 100).await;
        let history = found.unwrap_or_else(|| panic!("not detected: {}", patch.what));
        println!("{}: in history {history}", patch.what);
    }
}
