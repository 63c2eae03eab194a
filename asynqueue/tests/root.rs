//! The facade stays small: few names at its root, and one path for each name in its module.

use std::{collections::BTreeSet, fs, path::Path};

use syn::{Item, UseTree, Visibility};

fn items(source: &str) -> Vec<Item> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let text = fs::read_to_string(path).expect("readable");
    syn::parse_file(&text).expect("Rust").items
}

/// The paths that a `use` names, such as `asynqueue_core::broker`.
fn paths(tree: &UseTree, prefix: &str, found: &mut Vec<(String, String)>) {
    match tree {
        UseTree::Path(path) => paths(&path.tree, &format!("{prefix}{}::", path.ident), found),
        UseTree::Group(group) => {
            for tree in &group.items {
                paths(tree, prefix, found);
            }
        }
        UseTree::Name(name) => {
            found.push((format!("{prefix}{}", name.ident), name.ident.to_string()))
        }
        UseTree::Rename(name) => {
            found.push((format!("{prefix}{}", name.ident), name.rename.to_string()))
        }
        UseTree::Glob(_) => panic!("`{prefix}*` hides how many names there are: name them"),
    }
}

/// The paths and names of all re-exports. A type and a derive with the same name count once.
fn exported(items: &[Item]) -> BTreeSet<(String, String)> {
    let mut found = Vec::new();
    for item in items {
        if let Item::Use(item) = item
            && matches!(item.vis, Visibility::Public(_))
        {
            paths(&item.tree, "", &mut found);
        }
    }
    found.into_iter().collect()
}

/// Whether a complete module or crate is re-exported.
fn is_module(from: &str, name: &str) -> bool {
    let whole_crate = !from.contains("::");
    let of_core = from.strip_prefix("asynqueue_core::") == Some(name);
    whole_crate || of_core && name.chars().all(|c| c.is_lowercase() || c == '_')
}

#[test]
fn the_root_has_at_most_thirty_names() {
    let exported = exported(&items("src/lib.rs"));
    let names: BTreeSet<_> = exported
        .iter()
        .filter(|(from, name)| !is_module(from, name))
        .map(|(_, name)| name.as_str())
        .collect();
    assert!(
        names.contains("Producer") && names.contains("connect"),
        "{names:?}"
    );
    assert!(
        names.len() <= 30,
        "{} names at the root: {names:?}",
        names.len()
    );
}

#[test]
fn the_prelude_has_few_names_and_all_concern_tasks() {
    let prelude = items("src/lib.rs").into_iter().find_map(|item| match item {
        Item::Mod(item) if item.ident == "prelude" => item.content,
        _ => None,
    });
    let (_, items) = prelude.expect("a prelude");
    let exported = exported(&items);
    let names: BTreeSet<_> = exported.iter().map(|(_, name)| name.as_str()).collect();
    assert!(names.len() <= 20, "{} names: {names:?}", names.len());
    let foreign: Vec<_> = exported
        .iter()
        .filter(|(from, _)| {
            !from.starts_with("asynqueue_")
                && !from.starts_with("serde::")
                && !from.starts_with("crate::")
        })
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}

#[test]
fn the_root_of_core_has_only_modules() {
    let exported = exported(&items("../asynqueue-core/src/lib.rs"));
    assert!(
        exported.is_empty(),
        "each name is in its module: {exported:?}"
    );
}
