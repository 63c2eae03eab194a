//! The style sheet and scripts, embedded in the binary.

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

/// Name, content type and content of each file.
const FILES: [(&str, &str, &str); 11] = files! {
    "style.css": "text/css",
    "main.js": "text/javascript",
    "chart.js": "text/javascript",
    "duration.js": "text/javascript",
    "figures.js": "text/javascript",
    "forms.js": "text/javascript",
    "fresh.js": "text/javascript",
    "keys.js": "text/javascript",
    "search.js": "text/javascript",
    "stale.js": "text/javascript",
    "times.js": "text/javascript",
};

/// A hash of all files. It is part of their URLs, so that a browser never mixes files of two versions.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = DefaultHasher::new();
    for (_, _, content) in FILES {
        hasher.write(content.as_bytes());
    }
    format!("{:x}", hasher.finish())
});

/// The path of a file, below the path of the monitor.
pub(super) fn path(name: &str) -> String {
    format!("assets/{}/{name}", *VERSION)
}

/// Serves a file. Only files of this version are cacheable: during a rolling update, browsers may request files of the
/// other version.
pub(super) async fn file(
    Path((version, name)): Path<(String, String)>,
) -> Result<impl IntoResponse, Failed> {
    let found = FILES.into_iter().find(|(known, _, _)| *known == name);
    let (_, kind, content) =
        found.ok_or_else(|| Failed::NotFound("This file does not exist.".into()))?;
    let cache = match version == *VERSION {
        true => "max-age=31536000, immutable",
        false => "no-store",
    };
    Ok(([(CONTENT_TYPE, kind), (CACHE_CONTROL, cache)], content))
}
