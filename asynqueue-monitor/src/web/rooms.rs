//! Which rooms of the monitor may know of which, held by a look at what their files import.
//!
//! `reading/` knows of the broker alone. `request/`, `changes.rs` and `live/` are what answers have in common. `pages/` with
//! `forms.rs`, and `api/`, are two ways to answer: neither knows of the other, and nothing but the router knows of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The rooms that a file may not import from.
fn forbidden(file: &str) -> &'static [&'static str] {
    match file.split(['/', '.']).next().unwrap_or_default() {
        // The router, and this.
        "mod" | "rooms" => &[],
        "api" => &["pages", "forms"],
        "pages" => &["api", "forms"],
        "reading" => &["pages", "api", "forms", "request", "changes", "live"],
        _ => &["pages", "api", "forms"],
    }
}

/// The first of some rooms that a source names in a path or a `use`.
fn named<'r>(source: &str, rooms: &[&'r str]) -> Option<&'r str> {
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let code: Vec<_> = source.lines().filter(is_code).collect();
    let code = code.join("\n");
    let imports = code.split(';').filter_map(|item| {
        // Attributes, and whatever ends with a brace, stand before it.
        let start = item.find("use ").filter(|start| {
            let before = item[..*start].trim_end_matches(|c: char| c != '\n');
            before.is_empty() || before.ends_with('\n')
        })?;
        Some(&item[start..])
    });
    let imports: Vec<_> = imports.collect();
    let names = |text: &str, room: &str| {
        let mut words = text.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        words.any(|word| word == room)
    };
    let in_path = |room: &str| {
        let before = format!("::{room}::");
        code.contains(&before) || code.contains(&format!(" {room}::"))
    };
    let mut rooms = rooms.iter().copied();
    rooms.find(|room| imports.iter().any(|import| names(import, room)) || in_path(room))
}

fn sources(of: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(of).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|end| end == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn pages_and_api_import_nothing_from_each_other_and_nothing_imports_from_them() {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web");
    let mut files = Vec::new();
    sources(&web, &mut files);
    assert!(files.len() > 40, "{files:?}");
    for file in files {
        let name = file.strip_prefix(&web).expect("inside");
        let name = name.to_str().expect("text").replace('\\', "/");
        let source = fs::read_to_string(&file).expect("text");
        let found = named(&source, forbidden(&name));
        assert_eq!(found, None, "{name} imports from a room beside or above it");
    }
}

#[test]
fn an_import_is_found_however_it_is_written() {
    for source in [
        "use crate::web::pages::View;",
        "use super::{\n    links,\n    pages::{Failed, View},\n};",
        "//! Words.\n\nuse std::fmt;\n\nuse super::{links, pages};",
        "fn at() { let view = super::pages::View::new(); }",
        "mod a {\n    use crate::web::pages as other;\n}",
        "#[cfg(test)]\nuse crate::web::pages::View;",
        "fn at() {\n    pages::show();\n}",
    ] {
        assert_eq!(named(source, &["api", "pages"]), Some("pages"), "{source}");
    }
    for source in [
        "// use crate::web::pages::View;",
        "/// See [`super::pages::View`].\nstruct A;",
        "let text = \"many pages, few words\";",
        "use super::{homepages, links};",
    ] {
        assert_eq!(named(source, &["api", "pages"]), None, "{source}");
    }
}
