//! What browsers fetch beside the pages: style and script, kept in the program.

use std::{
    hash::{DefaultHasher, Hasher},
    sync::LazyLock,
};

use axum::{
    extract::Path,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    response::IntoResponse,
};

use super::request::Failed;

macro_rules! files {
    ($($name:literal: $kind:literal,)*) => {
        [$(($name, $kind, include_str!($name)),)*]
    };
}

/// Name, type and content of each.
const FILES: [(&str, &str, &str); 8] = files! {
    "style.css": "text/css",
    "main.js": "text/javascript",
    "chart.js": "text/javascript",
    "figures.js": "text/javascript",
    "forms.js": "text/javascript",
    "fresh.js": "text/javascript",
    "keys.js": "text/javascript",
    "times.js": "text/javascript",
};

/// Stands for the content of all, so that no browser mixes those of two versions.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = DefaultHasher::new();
    for (_, _, content) in FILES {
        hasher.write(content.as_bytes());
    }
    format!("{:x}", hasher.finish())
});

/// Where a file is, below the path of the monitor.
pub(super) fn path(name: &str) -> String {
    format!("assets/{}/{name}", *VERSION)
}

/// A file, for ever where it is of this version: while a monitor is replaced by another, each may be asked for those of the
/// other.
pub(super) async fn file(
    Path((version, name)): Path<(String, String)>,
) -> Result<impl IntoResponse, Failed> {
    let found = FILES.into_iter().find(|(known, _, _)| *known == name);
    let (_, kind, content) =
        found.ok_or_else(|| Failed::NotFound("There is no such file.".into()))?;
    let cache = match version == *VERSION {
        true => "max-age=31536000, immutable",
        false => "no-store",
    };
    Ok(([(CONTENT_TYPE, kind), (CACHE_CONTROL, cache)], content))
}
