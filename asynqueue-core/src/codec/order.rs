//! Decides whether the order of a value's parts is significant.
//!
//! Serde presents a set as a sequence, and all maps alike, so the name of the type decides. For other types, the order
//! of a sequence is significant and that of a map is not.

/// The order of a collection's parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Determined by the parts.
    Fixed,
    /// Arbitrary: equal sets can have different orders.
    OfASet,
    Unknown,
}

/// Types that serde ignores, so that the inner type decides.
const WRAPPERS: [&str; 9] = [
    "Box", "Arc", "Rc", "Cow", "Cell", "RefCell", "Mutex", "RwLock", "Reverse",
];

impl Order {
    /// The order of a type, by its [name](std::any::type_name).
    pub(super) fn of(type_name: &str) -> Self {
        let mut name = type_name;
        loop {
            name = name.trim_start_matches('&').trim_start_matches("mut ");
            let (path, inside) = name.split_once('<').unwrap_or((name, ""));
            match path.rsplit("::").next().unwrap_or(path) {
                "HashSet" | "AHashSet" | "IndexSet" | "DashSet" => return Self::OfASet,
                "BTreeMap" | "BTreeSet" => return Self::Fixed,
                wrapper if WRAPPERS.contains(&wrapper) => name = inside,
                _ => return Self::Unknown,
            }
        }
    }
}

/// Whether the key of a map is a field name, as written by a flattened struct: these have an order. The keys of a
/// collection are sized types, while a field name is a plain `str`.
pub(super) fn is_field_name<K: ?Sized>() -> bool {
    size_of::<&K>() > size_of::<usize>()
}

#[cfg(test)]
mod tests {
    use std::{
        any::type_name,
        borrow::Cow,
        collections::{BTreeMap, HashMap, HashSet},
        sync::Arc,
    };

    use super::*;

    #[test]
    fn the_standard_collections_are_recognized_behind_references_and_pointers() {
        type Set = HashSet<String>;
        for name in [
            type_name::<Set>(),
            type_name::<&&Set>(),
            type_name::<Arc<Box<Set>>>(),
            type_name::<Cow<'static, Set>>(),
            type_name::<hashbrown::HashSet<u8>>(),
        ] {
            assert_eq!(Order::of(name), Order::OfASet, "{name}");
        }
        assert_eq!(
            Order::of(type_name::<Box<BTreeMap<u8, Set>>>()),
            Order::Fixed
        );
        for name in [
            type_name::<Vec<Set>>(),
            type_name::<HashMap<Set, Set>>(),
            "",
        ] {
            assert_eq!(Order::of(name), Order::Unknown, "{name}");
        }
    }
}
