//! URLs of pages, below the path that the monitor is mounted at.

use std::fmt::Write;

use asynqueue_core::task::{Name, TaskRef, TaskState};
use axum::{extract::OriginalUri, http::Uri};

/// Builds links that work below any path, even behind a proxy that strips a prefix.
#[derive(Clone, Debug)]
pub(super) struct Links {
    base: String,
}

impl Links {
    /// Without a configured base, the mount path is the requested path without the part that the nested router sees.
    pub(super) fn new(base: Option<&str>, requested: &OriginalUri, inner: &Uri) -> Self {
        let base = base.map_or_else(
            || {
                let (requested, inner) = (requested.path(), inner.path());
                let base = requested.strip_suffix(inner).unwrap_or(requested);
                base.trim_end_matches('/').to_owned()
            },
            str::to_owned,
        );
        Self { base }
    }

    pub(super) fn page(&self, path: &str) -> String {
        match (self.base.as_str(), path) {
            // A nested router matches its path without a trailing slash.
            (base, "") if !base.is_empty() => base.to_owned(),
            (base, path) => format!("{base}/{path}"),
        }
    }

    pub(super) fn queue(&self, queue: &Name) -> String {
        self.page(&format!("queues/{}", encoded(queue)))
    }

    pub(super) fn state(&self, queue: &Name, state: TaskState) -> String {
        format!("{}?state={}", self.queue(queue), state.as_str())
    }

    pub(super) fn task(&self, task: &TaskRef) -> String {
        format!(
            "{}/tasks/{}",
            self.queue(&task.queue),
            encoded(task.id.as_str())
        )
    }
}

/// Percent-encodes text for a path or a query.
pub(super) fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(requested: &str, inner: &str) -> String {
        let requested = OriginalUri(requested.parse().expect("a path"));
        Links::new(None, &requested, &inner.parse().expect("a path")).page("x")
    }

    #[test]
    fn links_stay_below_the_mount_path() {
        assert_eq!(base("/", "/"), "/x");
        assert_eq!(base("/queues/a", "/queues/a"), "/x");
        assert_eq!(base("/ops/tasks/queues/a", "/queues/a"), "/ops/tasks/x");
        assert_eq!(base("/ops", "/"), "/ops/x");
        assert_eq!(base("/ops/", "/"), "/ops/x");
    }

    #[test]
    fn names_are_encoded() {
        assert_eq!(encoded("a/b@c:d é"), "a%2Fb%40c%3Ad%20%C3%A9");
    }
}
