//! The suite runs every test that it defines, and skips those of features that a store does not offer.

use std::{collections::BTreeSet, fs, path::Path, sync::Mutex, time::Duration};

use asynqueue_conformance::suite::{self, Harness};
use asynqueue_core::{broker::SharedBroker, memory::MemoryBroker};

fn source(suite: &str, file: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src")
        .join(suite);
    fs::read_to_string(folder.join(file)).expect("a source of the suite")
}

/// The tests in the macro's list, as `concern::test`.
fn listed(suite: &str) -> Vec<String> {
    let source = source(suite, "mod.rs");
    let (_, list) = source
        .split_once("__conformance_tests! {")
        .expect("the macro's list");
    let (list, _) = list.split_once("};").map_or((list, ""), |parts| parts);
    let mut concern = "";
    let mut tests = Vec::new();
    for line in list.lines().map(str::trim) {
        if let Some(name) = line.strip_suffix(": [") {
            concern = name;
        } else if line == "}" {
            break;
        } else if let Some(test) = line.strip_suffix(',').filter(|test| *test != "]") {
            tests.push(format!("{concern}::{test}"));
        }
    }
    tests
}

/// The tests that the modules of the suite define, as `concern::test`. A module may be a folder.
fn defined(suite: &str) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src")
        .join(suite);
    let mut tests = BTreeSet::new();
    for entry in fs::read_dir(folder).expect("the sources of the suite") {
        let path = entry.expect("an entry").path();
        let concern = path.file_stem().and_then(|stem| stem.to_str());
        let concern = concern.expect("a name in UTF-8");
        if concern == "mod" {
            continue;
        }
        let sources = match path.is_dir() {
            true => fs::read_dir(&path)
                .expect("a folder of the suite")
                .map(|entry| entry.expect("an entry").path())
                .collect(),
            false => vec![path.clone()],
        };
        for source in sources {
            let source = fs::read_to_string(source).expect("a source of the suite");
            for rest in source
                .lines()
                .filter_map(|line| line.strip_prefix("pub async fn "))
            {
                let (test, _) = rest.split_once('(').expect("arguments");
                tests.insert(format!("{concern}::{test}"));
            }
        }
    }
    tests
}

#[test]
fn every_test_that_is_defined_is_in_the_list_once() {
    for (suite, least) in [("suite", 300), ("store", 30)] {
        let listed = listed(suite);
        let once: BTreeSet<String> = listed.iter().cloned().collect();
        assert_eq!(once.len(), listed.len(), "a test is in the list twice");
        let defined = defined(suite);
        let not_run: Vec<_> = defined.difference(&once).collect();
        assert!(not_run.is_empty(), "not in the list: {not_run:?}");
        assert_eq!(once, defined);
        let count = listed.len();
        assert!(count > least, "only {count} tests of `{suite}` were found");
    }
}

/// Records the queries of features, and offers no groups.
#[derive(Default)]
struct NoGroups {
    queries: Mutex<Vec<String>>,
}

#[async_trait::async_trait]
impl Harness for NoGroups {
    async fn broker(&self) -> SharedBroker {
        MemoryBroker::new().into()
    }

    async fn advance(&self, _: Duration) {}

    fn offers(&self, concern: &str, test: &str) -> bool {
        let mut queries = self.queries.lock().expect("not poisoned");
        queries.push(format!("{concern}::{test}"));
        concern != "groups"
    }
}

#[tokio::test]
async fn tests_of_missing_features_are_skipped() {
    let harness = NoGroups::default();
    let fails = async { panic!("this ran") };
    suite::run(&harness, "groups", "groups_do_not_mix", fails).await;
    let mut ran = false;
    let runs = async { ran = true };
    suite::run(&harness, "lease", "a_higher_priority_goes_first", runs).await;
    assert!(ran);
    let queries = harness.queries.lock().expect("not poisoned");
    assert_eq!(
        *queries,
        [
            "groups::groups_do_not_mix",
            "lease::a_higher_priority_goes_first"
        ]
    );
}
