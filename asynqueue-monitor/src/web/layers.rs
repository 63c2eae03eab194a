//! Checks the dependencies between the modules of the monitor by reading their imports.
//!
//! `reading/` depends on the broker alone. `request/`, `changes.rs` and `live/` are shared. `pages/` with `forms.rs`
//! renders HTML, `api/` renders JSON: neither imports the other, and only the router imports them.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The modules that a file must not import.
fn forbidden(file: &str) -> &'static [&'static str] {
    match file.split(['/', '.']).next().unwrap_or_default() {
        // The router, and this file.
        "mod" | "layers" => &[],
        "api" => &["pages", "forms"],
        "pages" => &["api", "forms"],
        "reading" => &["pages", "api", "forms", "request", "changes", "live"],
        _ => &["pages", "api", "forms"],
    }
}

/// The first of some modules that a source names in a path or a `use`.
fn named<'r>(source: &str, modules: &[&'r str]) -> Option<&'r str> {
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let code: Vec<_> = source.lines().filter(is_code).collect();
    let code = code.join("\n");
    let imports = code.split(';').filter_map(|item| {
        // Attributes and blocks may precede it.
        let start = item.find("use ").filter(|start| {
            let before = item[..*start].trim_end_matches(|c: char| c != '\n');
            before.is_empty() || before.ends_with('\n')
        })?;
        Some(&item[start..])
    });
    let imports: Vec<_> = imports.collect();
    let names = |text: &str, module: &str| {
        let mut words = text.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        words.any(|word| word == module)
    };
    let in_path = |module: &str| {
        let inner = format!("::{module}::");
        code.contains(&inner) || code.contains(&format!(" {module}::"))
    };
    let mut modules = modules.iter().copied();
    modules.find(|module| imports.iter().any(|import| names(import, module)) || in_path(module))
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
fn pages_and_api_do_not_import_each_other_and_only_the_router_imports_them() {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web");
    let mut files = Vec::new();
    sources(&web, &mut files);
    assert!(files.len() > 40, "{files:?}");
    for file in files {
        let name = file.strip_prefix(&web).expect("inside");
        let name = name.to_str().expect("text").replace('\\', "/");
        let source = fs::read_to_string(&file).expect("text");
        let found = named(&source, forbidden(&name));
        assert_eq!(
            found, None,
            "{name} imports a module that it must not depend on"
        );
    }
}

#[test]
fn every_form_of_import_is_found() {
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
