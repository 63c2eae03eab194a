//! References to tasks.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{InvalidQueueName, InvalidTaskId, Name, TaskId, id::quoted};

/// A reference to a task: its queue and its id, which is unique in the queue.
///
/// Its text is `queue/id` and is parsed by [`FromStr`]. In the id, a slash is written as `%2F` and a percent sign as
/// `%25`, so that the last slash always separates queue and id.
///
/// ```
/// use asynqueue_core::task::{TaskId, TaskRef};
///
/// let task: TaskRef = "emails/welcome-42".parse()?;
/// assert_eq!(task, TaskRef::new("emails", TaskId::new("welcome-42")?));
/// assert_eq!(task.to_string(), "emails/welcome-42");
///
/// let nested = TaskRef::new("tenants/acme", TaskId::new("user/42")?);
/// assert_eq!(nested.to_string(), "tenants/acme/user%2F42");
/// assert_eq!(nested.to_string().parse::<TaskRef>()?, nested);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskRef {
    /// The queue of the task.
    pub queue: Name,
    /// The task's id, unique in its queue.
    pub id: TaskId,
}

impl TaskRef {
    /// A reference to task `id` of `queue`.
    pub fn new(queue: impl Into<Name>, id: TaskId) -> Self {
        Self {
            queue: queue.into(),
            id,
        }
    }
}

impl fmt::Display for TaskRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.queue)?;
        for part in self.id.as_str().split_inclusive(['/', '%']) {
            if let Some(text) = part.strip_suffix('/') {
                write!(f, "{text}%2F")?;
            } else if let Some(text) = part.strip_suffix('%') {
                write!(f, "{text}%25")?;
            } else {
                f.write_str(part)?;
            }
        }
        Ok(())
    }
}

impl FromStr for TaskRef {
    type Err = InvalidTaskRef;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let owned = || text.to_owned();
        let (queue, id) = text
            .rsplit_once('/')
            .ok_or_else(|| InvalidTaskRef::NoSlash { text: owned() })?;
        let queue = Name::from(queue);
        queue
            .check_queue()
            .map_err(|source| InvalidTaskRef::Queue {
                text: owned(),
                source,
            })?;
        let id = TaskId::new(unescaped(id)).map_err(|source| InvalidTaskRef::Id {
            text: owned(),
            source,
        })?;
        Ok(Self { queue, id })
    }
}

/// Reverses the escaping of an id. A percent sign that is not part of an escape is kept.
fn unescaped(id: &str) -> String {
    id.replace("%2F", "/").replace("%25", "%")
}

/// The error for text that is not a task reference.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTaskRef {
    /// The queue is missing.
    #[error(
        "invalid task reference {}: expected a queue, a slash and an id, such as `default/welcome-42`",
        quoted(text)
    )]
    NoSlash {
        /// The rejected text.
        text: String,
    },
    /// The part before the last slash is not a queue name.
    #[error("invalid task reference {}: {source}", quoted(text))]
    Queue {
        /// The rejected text.
        text: String,
        /// What is invalid in the queue name.
        source: InvalidQueueName,
    },
    /// The part after the last slash is not a task id.
    #[error("invalid task reference {}: {source}", quoted(text))]
    Id {
        /// The rejected text.
        text: String,
        /// What is invalid in the id.
        source: InvalidTaskId,
    },
}

crate::debug_as_text!(InvalidTaskRef);

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(queue: &str, id: &str) -> TaskRef {
        TaskRef::new(queue, TaskId::new(id).expect(id))
    }

    #[test]
    fn a_reference_with_any_slashes_is_parsed_from_its_text() {
        for (queue, id, text) in [
            ("default", "order-42", "default/order-42"),
            ("tenants/acme", "order-42", "tenants/acme/order-42"),
            ("default", "user/42", "default/user%2F42"),
            ("a/b", "/c//d/", "a/b/%2Fc%2F%2Fd%2F"),
            ("default", "100%", "default/100%25"),
            ("default", "%2F", "default/%252F"),
            ("default", "%25/%2525", "default/%2525%2F%252525"),
            ("a%2Fb", "c", "a%2Fb/c"),
            ("mail@user:new", "größe", "mail@user:new/größe"),
        ] {
            let task = reference(queue, id);
            assert_eq!(task.to_string(), text);
            assert_eq!(text.parse(), Ok(task), "{text}");
        }
    }

    #[test]
    fn a_percent_sign_outside_an_escape_is_kept() {
        assert_eq!("default/100%".parse(), Ok(reference("default", "100%")));
        assert_eq!("default/%41".parse(), Ok(reference("default", "%41")));
    }

    #[test]
    fn text_that_is_not_a_reference_is_refused_by_name() {
        for (text, part) in [
            ("", "expected a queue, a slash and an id"),
            ("order-42", "such as `default/welcome-42`"),
            ("/order-42", "invalid queue name ``"),
            ("a b/order-42", "invalid queue name `a b`"),
            ("default/", "invalid task id ``"),
            ("default/a b", "invalid task id `a b`"),
        ] {
            let error = text.parse::<TaskRef>().expect_err(text).to_string();
            let whole = format!("invalid task reference `{text}`");
            assert!(error.starts_with(&whole), "{error}");
            assert!(error.contains(part), "{error}");
        }
    }
}
