//! The book is consistent: each chapter is listed, its links are valid, its code is tested, and the metrics, settings and
//! messages that it names exist.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src")
}

/// All files in `folder`, chapters and images, by their path relative to the book's sources.
fn files(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder of the book") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            files(&path, found);
        } else if let Ok(chapter) = path.strip_prefix(sources()) {
            found.insert(chapter.to_string_lossy().replace('\\', "/"));
        }
    }
}

fn read(chapter: &str) -> String {
    fs::read_to_string(sources().join(chapter)).expect(chapter)
}

/// The targets of a chapter's links, except links to other sites.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1);
    targets
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
        .filter(|target| !target.contains("://"))
        .collect()
}

/// The anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars()
        .filter(|c| c.is_alphanumeric() || *c == '-')
        .collect()
}

#[test]
fn every_chapter_is_listed_and_every_image_used() {
    let mut found = BTreeSet::new();
    files(&sources(), &mut found);
    found.remove("SUMMARY.md");
    let summary = read("SUMMARY.md");
    let mut used: BTreeSet<_> = links(&summary).into_iter().map(str::to_owned).collect();
    for chapter in used.clone() {
        let text = read(&chapter);
        let pictures = links(&text)
            .into_iter()
            .filter(|link| link.ends_with(".png"));
        used.extend(pictures.map(|picture| picture.trim_start_matches("../").to_owned()));
    }
    assert_eq!(used, found);
}

#[test]
fn every_link_is_valid() {
    for chapter in links(&read("SUMMARY.md")) {
        let text = read(chapter);
        let folder = sources()
            .join(chapter)
            .parent()
            .expect("a folder")
            .to_owned();
        for link in links(&text) {
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                sources().join(chapter)
            } else {
                folder.join(file)
            };
            let target = fs::read(&target).unwrap_or_else(|_| panic!("{chapter}: {link}"));
            let target = String::from_utf8_lossy(&target);
            let mut headings = target.lines().filter(|line| line.starts_with('#'));
            assert!(
                place.is_empty()
                    || headings.any(|line| anchor(line.trim_start_matches(['#', ' '])) == place),
                "{chapter}: {link}"
            );
        }
    }
}

#[test]
fn all_code_is_tested() {
    let tested = include_str!("../src/lib.rs");
    let summary = read("SUMMARY.md");
    // The tutorial's files make whole programs: `scripts/tutorial` builds them, step by step.
    let chapters = links(&summary)
        .into_iter()
        .filter(|chapter| *chapter != "tutorial.md");
    for chapter in chapters {
        assert!(
            !read(chapter).contains("```rust") || tested.contains(&format!("\"{chapter}\";")),
            "{chapter} is not among the chapters in `src/lib.rs`"
        );
    }
}

/// The words in `text` that start with `prefix`, up to the first character that is not a part of one.
fn words<'a>(text: &'a str, prefix: &str, is_part: fn(char) -> bool) -> BTreeSet<&'a str> {
    text.match_indices(prefix)
        .filter(|(at, _)| !text[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        .map(|(at, _)| {
            let word = &text[at..];
            &word[..word.find(|c| !is_part(c)).unwrap_or(word.len())]
        })
        .collect()
}

/// The contents of the code blocks in a language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let blocks = text.split(language).skip(1);
    blocks
        .filter_map(|rest| rest.split_once("```"))
        .map(|(block, _)| block)
        .collect()
}

#[test]
fn every_metric_that_the_book_names_exists() {
    const CRATES: [&str; 7] = [
        "asynqueue_cli",
        "asynqueue_conformance",
        "asynqueue_core",
        "asynqueue_monitor",
        "asynqueue_postgres",
        "asynqueue_redis",
        "asynqueue_sqlite",
    ];
    const TABLES: [&str; 2] = ["asynqueue_outbox", "asynqueue_outbox_meta"];
    let names = include_str!("../../asynqueue-core/src/metrics/names.md");
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    for chapter in links(&read("SUMMARY.md")) {
        for word in words(&read(chapter), "asynqueue_", is_part) {
            assert!(
                word.ends_with('_')
                    || CRATES.contains(&word)
                    || TABLES.contains(&word)
                    || names.contains(&format!("`{word}`")),
                "{chapter}: {word}"
            );
        }
    }
}

#[test]
fn every_alert_that_the_book_names_exists() {
    let alerts = include_str!("../../docs/prometheus/alerts.yml");
    for chapter in links(&read("SUMMARY.md")) {
        for word in words(&read(chapter), "Asynqueue", |c| c.is_alphanumeric()) {
            assert!(
                alerts.contains(&format!("alert: {word}\n")),
                "{chapter}: {word}"
            );
        }
    }
}

#[test]
fn every_variable_that_the_book_names_is_a_setting() {
    // Of the command, of Kubernetes, of tests, and one that is misspelled on purpose.
    const OTHERS: [&str; 7] = [
        "ASYNQUEUE_BROKER",
        "ASYNQUEUE_CONCURENCY",
        "ASYNQUEUE_KILLS",
        "ASYNQUEUE_MOVE_FROM",
        "ASYNQUEUE_MOVE_TO",
        "ASYNQUEUE_REDIS_BINARIES",
        "ASYNQUEUE_SERVICE_HOST",
    ];
    let keys = read("operations/config.md");
    let is_part = |c: char| c.is_ascii_uppercase() || c == '_';
    for chapter in links(&read("SUMMARY.md")) {
        for word in words(&read(chapter), "ASYNQUEUE_", is_part) {
            let key = word.trim_start_matches("ASYNQUEUE_").to_lowercase();
            let key = key.replace("__", ".");
            let is_known = |key: &str| keys.contains(&format!("\n| `{key}` | "));
            let above = key.split_once('.').map_or("", |(map, _)| map);
            let is_setting = is_known(&key)
                || ["queue", "queue_concurrency"].contains(&above)
                || key.starts_with("monitoring.users.");
            assert!(
                key.is_empty()
                    || is_setting
                    || OTHERS.contains(&word)
                    || word.contains("_CHAOS")
                    || word.starts_with("ASYNQUEUE_MONITOR_"),
                "{chapter}: {word}"
            );
        }
    }
}

#[cfg(feature = "config")]
#[test]
fn every_sample_of_a_configuration_is_valid() {
    for (chapter, count) in [("operations/config.md", 1), ("operations/monitor.md", 1)] {
        let text = read(chapter);
        let samples = blocks(&text, "```toml\n");
        assert_eq!(samples.len(), count, "{chapter}");
        for sample in samples {
            let addr = if sample.contains("addr =") {
                ""
            } else {
                "addr = 'memory:'"
            };
            let config = asynqueue::Config::from_toml(&format!("{addr}\n{sample}"));
            assert!(config.is_ok(), "{chapter}: {config:?}");
        }
    }
}

/// The text with placeholders without their names: `{address}` and `{0}` become `{}`.
fn without_names(text: &str) -> String {
    let mut kept = String::new();
    let mut parts = text.split('{');
    kept.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let is_name = |c: char| c.is_alphanumeric() || "_:?.#".contains(c);
        match part.split_once('}') {
            Some((name, rest)) if name.chars().all(is_name) => {
                // Two values in a row are one to a reader.
                let values = if kept.ends_with("{}") { "" } else { "{}" };
                kept.push_str(values);
                kept.push_str(rest);
            }
            _ => {
                kept.push('{');
                kept.push_str(part);
            }
        }
    }
    kept
}

/// The source of all published crates, each string literal on one line.
fn source() -> String {
    fn read_folder(folder: &Path, source: &mut String) {
        for entry in fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                read_folder(&path, source);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                source.push_str(&fs::read_to_string(&path).expect("a source"));
            }
        }
    }
    let mut source = String::new();
    for name in [
        "asynqueue",
        "asynqueue-core",
        "asynqueue-monitor",
        "asynqueue-postgres",
        "asynqueue-redis",
        "asynqueue-sqlite",
    ] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(name)
            .join("src");
        read_folder(&folder, &mut source);
    }
    let mut lines = source.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |joined, line| joined + line.trim_start())
}

#[test]
fn every_message_in_troubleshooting_is_one_of_the_program() {
    let source = without_names(&source());
    let chapter = read("operations/troubleshooting.md");
    // A message has two backticks on each side, since it may contain single ones.
    let lines = chapter.lines().filter(|line| !line.contains("```"));
    let messages = lines.flat_map(|line| line.split("``").skip(1).step_by(2));
    let messages: Vec<_> = messages.map(str::trim).collect();
    assert!(messages.len() > 50, "{}", messages.len());
    let unknown: Vec<_> = messages
        .into_iter()
        .filter(|message| !source.contains(&without_names(message)))
        .collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
}

/// The samples for platforms allow the time that the chapter on shutdown adds up.
#[test]
fn the_samples_allow_a_shutdown_its_time() {
    let shutdown = read("operations/shutdown.md");
    let (_, table) = shutdown.split_once("| limit |\n").expect("the table");
    let limits = table
        .lines()
        .skip(1)
        .map_while(|line| line.strip_suffix(" s |")?.rsplit(' ').next()?.parse().ok());
    let limits: Vec<u64> = limits.collect();
    let [timeout, grace, outcomes, hooks] = limits[..] else {
        panic!("{limits:?}");
    };
    let settings = include_str!("../../asynqueue-core/src/server/settings.rs");
    let shutdown_code = include_str!("../../asynqueue-core/src/server/shutdown.rs");
    for (code, setting, seconds) in [
        (settings, "shutdown_timeout:", timeout),
        (settings, "cancel_grace:", grace),
        (shutdown_code, "LAST_CALLS: Duration =", outcomes),
        (shutdown_code, "LAST_HOOKS: Duration =", hooks),
    ] {
        let value = format!("{setting} Duration::from_secs({seconds})");
        assert!(code.contains(&value), "{value}");
    }
    let server: u64 = limits.iter().sum();
    let words = shutdown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(&format!("a server stops within {server} s")));
    // The parts of an app beside its server: monitor, metrics and connections.
    let app: u64 = 1 + 1 + 1;
    let all = timeout + 10;
    assert!(server + app <= all, "the rule in the text");
    let deploying = read("operations/deploying.md");
    for sample in [
        format!("terminationGracePeriodSeconds: {all} "),
        format!("TimeoutStopSec={all}\n"),
        format!("stop_grace_period: {all}s\n"),
        format!("docker stop --timeout {all} "),
    ] {
        assert!(deploying.contains(&sample), "{sample}");
    }
}
