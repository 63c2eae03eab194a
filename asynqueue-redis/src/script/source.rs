//! The text of a script: shared functions, names for its keys and arguments, and its body.
//!
//! The names come from the [table](super::table), which also defines the callers' types. No code counts positions.

use std::fmt::Write;

/// Functions that several scripts share: a file in `scripts/shared/`.
pub(super) struct Shared {
    /// The keys of the table `keys` that they use. A script that includes them declares these.
    pub(super) keys: &'static [&'static str],
    pub(super) code: &'static str,
}

/// A script as the table declares it.
pub(super) struct Source {
    pub(super) name: &'static str,
    pub(super) shared: &'static [&'static Shared],
    pub(super) keys: &'static [&'static str],
    /// The name of the additional keys, if there are any.
    pub(super) rest: Option<&'static str>,
    pub(super) args: &'static [&'static str],
    pub(super) rows: &'static [Row],
    pub(super) body: &'static str,
}

/// Repeatable arguments, for example one row per task.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) fields: &'static [&'static str],
}

impl Source {
    /// The code that is sent to Redis.
    pub(super) fn text(&self) -> String {
        let shared = self.shared.iter().map(|shared| shared.code);
        let mut text: String = shared.collect();
        text.push_str(&self.names());
        text.push_str(self.body);
        text
    }

    /// The lines that name the keys and arguments: a local variable for each.
    ///
    /// Names in capitals are the position of each field in its row, the length of each row, and in `ROWS` the index of
    /// the first row. The name of the additional keys is the index of the first of them.
    pub(super) fn names(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let mut locals = |names: &[String], values: &str| {
            if !names.is_empty() {
                let _ = writeln!(text, "local {} = {values}", names.join(", "));
            }
        };
        let owned = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        let (keys, args) = (self.keys.len(), self.args.len());
        locals(&owned(self.keys), &format!("unpack(KEYS, 1, {keys})"));
        locals(&owned(self.args), &format!("unpack(ARGV, 1, {args})"));
        if let Some(rest) = self.rest {
            locals(&[rest.to_uppercase()], &(keys + 1).to_string());
        }
        if !self.rows.is_empty() {
            locals(&["ROWS".to_owned()], &(args + 1).to_string());
        }
        for row in self.rows {
            let mut names: Vec<_> = row.fields.iter().map(|name| name.to_uppercase()).collect();
            names.push(format!("{}_ROW", row.name.to_uppercase()));
            let places: Vec<_> = (0..names.len()).map(|place| place.to_string()).collect();
            locals(&names, &places.join(", "));
        }
        let shared = self.shared_keys();
        if !shared.is_empty() {
            let fields: Vec<_> = shared.iter().map(|key| format!("{key} = {key}")).collect();
            locals(&["keys".to_owned()], &format!("{{{}}}", fields.join(", ")));
        }
        text
    }

    /// The keys that shared functions use.
    pub(super) fn shared_keys(&self) -> Vec<&'static str> {
        let mut keys: Vec<_> = self
            .shared
            .iter()
            .flat_map(|shared| shared.keys)
            .copied()
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}
