//! The book is consistent: each chapter is listed, its links are valid, and its code is tested.

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
    for chapter in links(&read("SUMMARY.md")) {
        assert!(
            !read(chapter).contains("```rust") || tested.contains(&format!("\"{chapter}\";")),
            "{chapter} is not among the chapters in `src/lib.rs`"
        );
    }
}
