//! Where pages are, below whatever path the monitor is mounted at.

use std::fmt::Write;

use asynqueue_core::task::{Name, TaskRef, TaskState};
use axum::{extract::OriginalUri, http::Uri};

/// Makes links that work below any path, also behind a proxy that takes a part of it away.
#[derive(Clone, Debug)]
pub(super) struct Links {
    base: String,
}

impl Links {
    /// What a browser asked for ends with what came to the router; what is before that is the path it is mounted at.
    pub(super) fn new(base: Option<&str>, asked: &OriginalUri, inner: &Uri) -> Self {
        let base = base.map_or_else(
            || {
                let (asked, inner) = (asked.path(), inner.path());
                let base = asked.strip_suffix(inner).unwrap_or(asked);
                base.trim_end_matches('/').to_owned()
            },
            str::to_owned,
        );
        Self { base }
    }

    pub(super) fn page(&self, path: &str) -> String {
        match (self.base.as_str(), path) {
            // A nested router answers for its path without a slash at the end.
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

/// Text as it may stand in a path or in a query.
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

    fn base(asked: &str, inner: &str) -> String {
        let asked = OriginalUri(asked.parse().expect("a path"));
        Links::new(None, &asked, &inner.parse().expect("a path")).page("x")
    }

    #[test]
    fn links_stay_below_the_path_it_is_mounted_at() {
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
