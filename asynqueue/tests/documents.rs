//! The documents for contributors name only existing files, types, tests and store methods. The invariants that they
//! state hold where the sources show them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

/// What a contributor reads besides the book, and the chapter for authors of brokers.
const DOCUMENTS: [&str; 5] = [
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "COMPARE.md",
    BROKER,
];

const BROKER: &str = "docs/src/architecture/store.md";

/// The store whose code the chapter shows.
const EXAMPLE: &str = "asynqueue-conformance/tests/table_store.rs";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The files below a folder whose names end with `ending`, by their path from the root.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).expect("a folder") {
        let entry = entry.expect("readable");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{folder}/{name}");
        if entry.path().is_dir() {
            found.extend(files(&path, ending));
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Each document with its text.
fn documents() -> Vec<(String, String)> {
    let mut all: Vec<_> = DOCUMENTS.map(str::to_owned).into();
    all.extend(files("docs/decisions", ".md"));
    let text = |file: String| {
        let text = read(&file);
        (file, text)
    };
    all.into_iter().map(text).collect()
}

/// The text without its blocks of code, and these blocks with what is behind their opening fence.
fn split(text: &str) -> (String, Vec<(&str, String)>) {
    let (mut prose, mut blocks, mut open) = (String::new(), Vec::new(), None);
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(kind), None) => open = Some((kind, String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, block))) => *block += &format!("{line}\n"),
            (None, None) => prose += &format!("{line}\n"),
        }
    }
    assert!(open.is_none(), "a block of code is not closed");
    (prose, blocks)
}

/// What is between backticks.
fn code(prose: &str) -> Vec<&str> {
    prose.split('`').skip(1).step_by(2).collect()
}

/// The Rust code of all packages.
static SOURCES: LazyLock<String> = LazyLock::new(|| {
    let packages = [
        "asynqueue",
        "asynqueue-cli",
        "asynqueue-conformance",
        "asynqueue-core",
        "asynqueue-macros",
        "asynqueue-monitor",
        "asynqueue-postgres",
        "asynqueue-redis",
        "asynqueue-sqlite",
        "test-servers",
    ];
    let sources = packages.iter().flat_map(|package| files(package, ".rs"));
    sources.map(|file| read(&file)).collect()
});

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// Whether the sources have this word behind one of these.
fn is_defined(word: &str, behind: &[&str]) -> bool {
    behind.iter().any(|keyword| {
        let definition = format!("{keyword}{word}");
        let mut found = SOURCES.match_indices(&definition);
        found.any(|(at, _)| {
            let next = SOURCES[at + definition.len()..].chars().next();
            !next.is_some_and(|c| c.is_alphanumeric() || c == '_')
        })
    })
}

/// Names of the standard library that documents use.
const STANDARD: [&str; 5] = ["Debug", "Display", "Err", "From", "None"];

/// What is wrong with a name in backticks, if it is that of a type, or of something of a type.
fn unknown(name: &str) -> Option<String> {
    let mut parts = name.split("::");
    let (first, second) = (parts.next()?, parts.next());
    let is_type = is_word(first)
        && first.starts_with(char::is_uppercase)
        && first.contains(char::is_lowercase);
    if !is_type || parts.next().is_some() {
        return None;
    }
    if STANDARD.contains(&first) {
        return None;
    }
    let kinds = ["trait ", "struct ", "enum ", "type ", "macro_rules! "];
    if !is_defined(first, &kinds) {
        return Some(format!("no type `{first}`"));
    }
    let member = second.filter(|member| is_word(member))?;
    // A method, a field, a variant or a constant.
    let is_member = is_defined(member, &["fn ", "pub ", "    ", "const "]);
    (!is_member).then(|| format!("`{first}` has no `{member}`"))
}

/// A path in backticks, from the root: it has a slash or an ending, and nothing that a path has not.
fn path(code: &str) -> Option<&str> {
    let is_path = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let starts = code.split('/').next()?;
    let is_inside = code.contains('/') && root().join(starts).exists();
    let endings = [".rs", ".md", ".toml", ".lua", ".sql", ".yml", ".json"];
    let is_file = endings.iter().any(|ending| code.ends_with(ending));
    (code.chars().all(is_path) && !code.starts_with('/') && (is_inside || is_file)).then_some(code)
}

#[test]
fn every_path_in_a_document_exists() {
    let mut missing = Vec::new();
    for (document, text) in documents() {
        let (prose, blocks) = split(&text);
        let in_prose = code(&prose).into_iter().filter_map(path);
        let shell = blocks.iter().filter(|(kind, _)| *kind == "sh");
        let words = shell.flat_map(|(_, block)| block.split_whitespace());
        let scripts = words.filter(|word| word.starts_with("scripts/"));
        for path in in_prose.chain(scripts) {
            if !root().join(path).exists() {
                missing.push(format!("{document}: {path}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// A heading as a link names it.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars()
        .filter(|c| c.is_alphanumeric() || *c == '-')
        .collect()
}

#[test]
fn every_link_of_a_document_leads_to_a_file_and_its_heading() {
    let mut missing = Vec::new();
    for (document, text) in documents() {
        let (prose, _) = split(&text);
        let folder = root().join(&document);
        let folder = folder.parent().expect("a folder");
        let targets = prose.split("](").skip(1);
        let targets = targets.filter_map(|rest| rest.split_once(')'));
        for (link, _) in targets.filter(|(link, _)| !link.contains("://")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = folder.join(file);
            let found = match (fs::read_to_string(&target), heading) {
                (Err(_), _) => false,
                (Ok(_), "") => true,
                (Ok(text), heading) => {
                    let mut lines = split(&text).0;
                    lines.retain(|c| c != '`');
                    let mut headings = lines.lines().filter(|line| line.starts_with('#'));
                    headings.any(|line| anchor(line.trim_start_matches(['#', ' '])) == heading)
                }
            };
            if !found {
                missing.push(format!("{document}: {link}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn every_type_in_a_document_exists() {
    let mut found = Vec::new();
    for (document, text) in documents() {
        let (prose, _) = split(&text);
        let unknown = code(&prose).into_iter().filter_map(unknown);
        found.extend(unknown.map(|problem| format!("{document}: {problem}")));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_test_that_a_document_runs_exists() {
    let mut missing = Vec::new();
    for (document, text) in documents() {
        for line in text.lines().filter(|line| line.contains("cargo test -p ")) {
            let words: Vec<_> = line.split([' ', '`', '#']).collect();
            let after = |option| {
                let place = words.iter().position(|word| *word == option)?;
                words.get(place + 1).copied()
            };
            let (Some(package), Some(test)) = (after("-p"), after("--test")) else {
                continue;
            };
            let tests = root().join(package).join("tests");
            let is_test = tests.join(format!("{test}.rs")).exists()
                || tests.join(test).join("main.rs").exists();
            if !is_test {
                missing.push(format!("{document}: {package}/tests/{test}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// In the tables of the comparison, each line on this project has a link or a command.
#[test]
fn every_claim_about_asynqueue_has_a_source() {
    let text = read("COMPARE.md");
    let rows = text
        .lines()
        .filter(|line| line.starts_with("| asynqueue |"));
    let rows: Vec<_> = rows.skip(1).collect();
    assert!(rows.len() > 10, "only {} rows", rows.len());
    let without = rows.iter().filter(|row| !row.contains("]("));
    assert_eq!(without.collect::<Vec<_>>(), Vec::<&&str>::new());
}

/// The lines of code without their indentation.
fn lines(code: &str) -> Vec<&str> {
    let lines = code.lines().map(str::trim);
    lines.filter(|line| !line.is_empty()).collect()
}

#[test]
fn the_chapter_on_brokers_shows_code_that_passes_the_suites() {
    let (chapter, example) = (read(BROKER), read(EXAMPLE));
    let example = lines(&example);
    let (_, blocks) = split(&chapter);
    let rust = blocks.iter().filter(|(kind, _)| kind.starts_with("rust"));
    let rust: Vec<_> = rust.collect();
    assert!(rust.len() > 5, "only {} blocks", rust.len());
    for (_, block) in rust {
        // What is left out between two parts is marked by an ellipsis.
        let lines = lines(block);
        for part in lines
            .split(|line| *line == "// …")
            .filter(|part| !part.is_empty())
        {
            let is_there = example.windows(part.len()).any(|window| window == part);
            assert!(is_there, "not in {EXAMPLE}:\n{}", part.join("\n"));
        }
    }
}

#[test]
fn the_chapter_on_brokers_lists_every_method_of_a_store() {
    let (chapter, source) = (read(BROKER), read("asynqueue-core/src/broker/store.rs"));
    let (_, methods) = source.split_once("pub trait Store").expect("the trait");
    let names = methods
        .split("    fn ")
        .flat_map(|part| part.split("async fn "))
        .skip(1);
    let names = names
        .filter_map(|rest| rest.split_once('('))
        .map(|(name, _)| name);
    let names: BTreeSet<_> = names.filter(|name| is_word(name)).collect();
    assert!(names.len() > 30, "only {names:?}");
    let (prose, _) = split(&chapter);
    let named: BTreeSet<_> = code(&prose)
        .into_iter()
        .map(|code| code.trim_start_matches("Store::"))
        .collect();
    // What operators look at, without a contract that could be missed.
    let plain = BTreeSet::from(["nodes", "ping", "place"]);
    let missing: Vec<_> = names
        .into_iter()
        .filter(|name| !named.contains(name) && !plain.contains(name))
        .collect();
    assert!(missing.is_empty(), "not in {BROKER}: {missing:?}");
}

#[test]
fn every_decision_is_in_the_index() {
    let index = read("docs/decisions/README.md");
    for file in files("docs/decisions", ".md") {
        let name = file.trim_start_matches("docs/decisions/");
        assert!(
            name == "README.md" || index.contains(&format!("]({name})")),
            "{name} is not in docs/decisions/README.md"
        );
    }
}

// The invariants of ARCHITECTURE.md that can be read from the sources.

/// The packages of the workspace that a package is built with, other than for tests.
fn dependencies(package: &str) -> Vec<String> {
    let manifest = read(&format!("{package}/Cargo.toml"));
    let (_, rest) = manifest.split_once("\n[dependencies]\n").expect("a table");
    let table = rest.split("\n[").next().unwrap_or(rest);
    let names = table
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next());
    let own = names.filter(|name| name.starts_with("asynqueue"));
    own.map(str::to_owned).collect()
}

#[test]
fn the_core_depends_on_no_package_and_others_on_the_core_alone() {
    for package in ["asynqueue-core", "asynqueue-macros"] {
        assert_eq!(dependencies(package), Vec::<String>::new(), "{package}");
    }
    for package in [
        "asynqueue-conformance",
        "asynqueue-monitor",
        "asynqueue-postgres",
        "asynqueue-redis",
        "asynqueue-sqlite",
    ] {
        assert_eq!(dependencies(package), ["asynqueue-core"], "{package}");
    }
    let workspace = read("Cargo.toml");
    assert!(workspace.contains("unsafe_code = \"forbid\""));
}

#[test]
fn the_callers_traits_are_implemented_once_for_every_store() {
    for name in [
        "Broker",
        "Inspect",
        "Control",
        "Groups",
        "Schedules",
        "Subscriptions",
        "Fleet",
    ] {
        let sources = files("asynqueue-core/src", ".rs").into_iter();
        let sources = sources.chain(files("asynqueue-postgres/src", ".rs"));
        let sources = sources.chain(files("asynqueue-redis/src", ".rs"));
        let sources = sources.chain(files("asynqueue-sqlite/src", ".rs"));
        let text: Vec<_> = sources.map(|file| read(&file)).collect();
        let lines = text.iter().flat_map(|text| text.lines());
        let implementations = lines.filter(|line| line.contains(&format!(" {name} for ")));
        let implementations: Vec<_> = implementations.collect();
        assert_eq!(implementations, [format!("impl<S: Store> {name} for S {{")]);
    }
}

#[test]
fn the_core_takes_randomness_and_the_wall_clock_from_ambient() {
    let exempt = ["asynqueue-core/src/ambient/", "asynqueue-core/src/testing/"];
    for file in files("asynqueue-core/src", ".rs") {
        if exempt.iter().any(|folder| file.starts_with(folder)) {
            continue;
        }
        let text = read(&file);
        for source in ["rand::", "SystemTime::now(", "UNIX_EPOCH.elapsed("] {
            assert!(!text.contains(source), "{file}: `{source}`");
        }
    }
}

#[test]
fn a_type_or_member_that_does_not_exist_is_found() {
    assert_eq!(unknown("Store::settle"), None);
    assert_eq!(unknown("Settled::Stale"), None);
    assert_eq!(unknown("Stoore"), Some("no type `Stoore`".into()));
    assert_eq!(
        unknown("Store::settle_twice"),
        Some("`Store` has no `settle_twice`".into())
    );
    assert_eq!(unknown("MAX_SERIES"), None, "a constant is not a type");
}
